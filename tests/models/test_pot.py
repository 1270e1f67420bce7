"""Power-of-two networks: what is shipped, pruning, fine-tuning, and the same in hardware."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from mulfree.emit import module_name, to_verilog
from mulfree.engine.dense import DenseSpec
from mulfree.formats import PowerOfTwo
from mulfree.formats.runs import compress
from mulfree.units.pot import PoTSpec
from mulfree.units.skip import SkipSpec
from mulfree_models import digits, pot
from mulfree_models.commands.demo import run_network
from mulfree_models.quantise import QuantisedWeights, quantise
from mulfree_models.recipes import pot as recipe
from mulfree_sim import runner
from mulfree_sim.golden import pot as dense_golden
from mulfree_sim.golden import skip as skip_golden

SHIPPED = [(bits, pruned) for bits in pot.SHIPPED for pruned in (False, True)]


@pytest.fixture(scope="module")
def data():
    return digits.load()


@pytest.fixture(scope="module")
def int8_accuracy(data):
    network = quantise(digits.network(), digits.scaled(data.train_images))
    return digits.accuracy(network.classify(digits.scaled(data.test_images)), data.test_labels)


@pytest.mark.parametrize(("bits", "pruned"), SHIPPED)
def test_shipped_networks_measure_as_they_say(bits, pruned):
    network = pot.shipped(bits, pruned)
    assert recipe.measure(network, bits) == pytest.approx(network.measured, abs=1e-3)


@pytest.mark.parametrize(("bits", "pruned"), SHIPPED)
def test_shipped_weights_are_levels(bits, pruned):
    """Quantising again changes nothing but the last bits of single precision."""
    network = pot.shipped(bits, pruned)
    again = pot.rounded(network, pot.PowerOfTwoWeights(PowerOfTwo(bits)))
    for layer, other in zip(network.layers, again.layers, strict=True):
        assert other.weights == pytest.approx(layer.weights, rel=1e-6)


def test_accuracy_beside_eight_bits(int8_accuracy):
    four = pot.shipped(4).measured["integer_accuracy"]
    assert four >= int8_accuracy - 1
    assert recipe.post_training(4)["integer_accuracy"] < four
    for bits in pot.SHIPPED:
        pruned = pot.shipped(bits, pruned=True).measured
        assert pruned["sparsity"] >= 0.5
        assert pruned["integer_accuracy"] >= int8_accuracy - 2


def test_unknown_width():
    with pytest.raises(ValueError, match=r"^bits must be one of 3, 4, 5, not 6$"):
        pot.shipped(6)


@pytest.fixture
def layer():
    rng = np.random.default_rng(8)
    weights = pot.PowerOfTwoWeights(PowerOfTwo(4))(rng.normal(0, 1, (6, 40)))
    return weights, rng.normal(0, 1, (100, 40))


@pytest.mark.parametrize("budget", [0.0, 0.01, 0.05, 0.3, 1.0])
def test_pruning_takes_the_lowest_codes_that_the_budget_allows(layer, budget):
    weights, x = layer
    found = pot.prune_layer(weights, x, budget)
    levels = np.unique(np.abs(weights.values[weights.values != 0]))
    gone = levels[: found.codes]
    assert np.array_equal(found.weights.values == 0, np.isin(np.abs(weights.values), [0, *gone]))
    assert found.error <= budget
    assert found.sparsity == np.mean(found.weights.values == 0)
    real = weights.values * weights.scale[:, None]
    left = found.weights.values * weights.scale[:, None]
    error = ((x @ (real - left).T) ** 2).sum() / ((x @ real.T) ** 2).sum()
    assert found.error == pytest.approx(error)
    if found.codes < len(levels):
        more = np.where(np.isin(np.abs(weights.values), levels[: found.codes + 1]), 0, real)
        assert ((x @ (real - more).T) ** 2).sum() / ((x @ real.T) ** 2).sum() > budget


def test_pruning_by_a_mask(layer):
    weights, x = layer
    mask = pot.magnitude_mask(weights.values, 0.5)
    assert mask.mean() == 0.5
    found = pot.prune_layer(weights, x, 0.0, mask)
    assert np.array_equal(found.weights.values, weights.values * mask)
    assert np.abs(weights.values[~mask]).max() <= np.abs(weights.values[mask]).min()
    with pytest.raises(ValueError, match=r"^mask must have shape \(6, 40\), not \(2, 2\)$"):
        pot.prune_layer(weights, x, 0.0, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^budget must be between 0 and 1, not 2$"):
        pot.prune_layer(weights, x, 2)


def test_pruning_within_an_accuracy_budget(data):
    quantiser = pot.PowerOfTwoWeights(PowerOfTwo(4))
    x, labels = digits.scaled(data.train_images), data.train_labels
    start = digits.accuracy(pot.rounded(digits.network(), quantiser).classify(x), labels)
    some = pot.prune(digits.network(), quantiser, x, labels, points=1.0)
    more = pot.prune(digits.network(), quantiser, x, labels, points=10.0)
    assert some.accuracy >= start - 1
    assert more.accuracy >= start - 10
    assert more.sparsity > some.sparsity > 0.3


def test_fine_tuning_keeps_masks_and_gains(data):
    quantiser = pot.PowerOfTwoWeights(PowerOfTwo(3))
    x, labels = digits.scaled(data.train_images)[:400], data.train_labels[:400]
    masks = [pot.magnitude_mask(layer.weights, 0.8) for layer in digits.network().layers]
    cut = [
        digits.FloatLayer(layer.weights * mask, layer.bias, layer.relu)
        for layer, mask in zip(digits.network().layers, masks, strict=True)
    ]
    before = pot.rounded(digits.FloatNetwork(cut, {}), quantiser)
    after = pot.fine_tune(digits.network(), quantiser, x, labels, masks=masks, epochs=4)
    for layer, mask in zip(after.layers, masks, strict=True):
        assert not layer.weights[~mask].any()
    assert digits.accuracy(after.classify(x), labels) > digits.accuracy(before.classify(x), labels)


def test_rows_of_tiny_weights_keep_their_bias_small():
    weights = np.array([[1.0, -0.5], [1e-9, 2e-9], [0.0, 0.0]])
    found = pot.PowerOfTwoWeights(PowerOfTwo(4))(weights)
    assert found.scale.min() >= found.scale[0] * 2.0**-6
    assert found.values[1:].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("bits", pot.SHIPPED)
def test_zero_skipping_on_the_pruned_network(data, bits):
    """Entries are within 3 % and one a row of the non-zero weights; sums are the dense unit's."""
    quantiser = pot.PowerOfTwoWeights(PowerOfTwo(bits))
    samples = digits.scaled(data.train_images)
    network = quantise(pot.shipped(bits, pruned=True), samples, quantiser)
    given = network.activations(digits.scaled(data.test_images[:20]))
    spec = SkipSpec(weight_bits=bits)
    for layer, act in zip(network.layers, given, strict=False):
        values = layer.weights.values
        entries = compress(values, spec.run_bits)
        assert len(entries) <= 1.03 * np.count_nonzero(values) + len(values)
        rows, columns = values.shape
        dense = PoTSpec(outputs=rows, lanes=columns, weight_bits=bits)
        for vector, expected in zip(act, dense_golden.matvec(dense, values, act), strict=True):
            assert np.array_equal(skip_golden.sums(spec, entries, vector), expected)


def test_zero_skipping_on_the_pruned_network_in_hardware(data, tmp_path):
    """The same sums, and the clocks that the entries say, from the RTL."""
    quantiser = pot.PowerOfTwoWeights(PowerOfTwo(4))
    samples = digits.scaled(data.train_images)
    network = quantise(pot.shipped(4, pruned=True), samples, quantiser)
    act = network.activations(digits.scaled(data.test_images[:2]))[0]
    file = tmp_path / "layer.npz"
    np.savez(file, matrix=network.layers[0].weights.values, vectors=act)
    spec = SkipSpec()
    result = runner.run(
        to_verilog(spec),
        module_name(spec),
        "mulfree_sim.benches.skip",
        simulator="icarus" if runner.available("icarus") else "verilator",
        seed=1,
        environment={
            "MULFREE_SPEC": spec.to_json(),
            "MULFREE_SETTINGS": json.dumps({"layer": str(file)}),
        },
    )
    assert result.passed, result.log[-3000:]


def equals_golden_in_hardware(network, bits, real):
    """Run a network layer by layer through array and requantizer; every output must be right."""
    left = max(0, *(int(layer.parameters.shift.max()) for layer in network.layers))
    widest = max(len(layer.parameters.bias) for layer in network.layers)
    spec = DenseSpec(
        core=PoTSpec(outputs=4, lanes=8, weight_bits=bits),
        acc_slots=64, channels=widest, left_shift=left, scalers=4,
    )  # fmt: skip
    found = run_network(spec, to_verilog(spec), network, real, "verilator", lambda *_: None)
    assert found.mismatches == 0
    assert np.array_equal(found.predicted, network.classify(real))


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "pruned"), SHIPPED)
def test_hardware_equals_golden_on_all_held_out_digits(data, bits, pruned):
    quantiser = pot.PowerOfTwoWeights(PowerOfTwo(bits))
    samples = digits.scaled(data.train_images)
    network = quantise(pot.shipped(bits, pruned), samples, quantiser)
    equals_golden_in_hardware(network, bits, digits.scaled(data.test_images))


def mnist() -> tuple[np.ndarray, np.ndarray]:
    root = Path(os.environ.get("MULFREE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    folder = root / "mnist_t10k"
    if not folder.is_dir():
        pytest.skip(f"no MNIST: {folder} is missing; MULFREE_DATA names the folder it is in")
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784) / 255
    labels = np.frombuffer((folder / "t10k-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order].astype(np.int64)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_mnist_at_four_bits():
    """Trained on 9,000 images; 1,000 held out, 64 of them through the hardware."""
    from sklearn.neural_network import MLPClassifier

    images, labels = mnist()
    train, test = slice(0, 9000), slice(9000, None)
    model = MLPClassifier((32,), alpha=0.1, max_iter=30, random_state=0)
    model.fit(images[train], labels[train])
    layers = [
        digits.FloatLayer(w.T, b, relu=i == 0)
        for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True))
    ]
    network = digits.FloatNetwork(layers, {})
    eight = quantise(network, images[train])
    quantiser = pot.PowerOfTwoWeights(PowerOfTwo(4))
    tuned = pot.fine_tune(network, quantiser, images[train], labels[train], epochs=8)
    four = quantise(tuned, images[train], quantiser)
    reference = digits.accuracy(eight.classify(images[test]), labels[test])
    reached = digits.accuracy(four.classify(images[test]), labels[test])
    print(f"MNIST: 8-bit {reference:.1f} %, 4-bit powers of two {reached:.1f} %")
    assert reached >= reference - 1
    equals_golden_in_hardware(four, 4, images[test][:64])


def test_codes_of_the_array_are_values():
    weights = pot.PowerOfTwoWeights(PowerOfTwo(4))(np.array([[1.0, -0.25]]))
    assert isinstance(weights, QuantisedWeights)
    assert weights.codes.tolist() == weights.values.tolist() == [[64, -16]]
