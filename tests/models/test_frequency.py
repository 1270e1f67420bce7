import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mulfree.emit import module_name, to_verilog
from mulfree.formats.searchtree import best_tree
from mulfree.units.bitplane import BitPlaneSpec
from mulfree.units.digitizer import DigitizerSpec
from mulfree_models import digits, frequency
from mulfree_sim import runner
from mulfree_sim.golden import bitplane
from mulfree_sim.golden import digitizer as digitizer_golden


@pytest.fixture(scope="module")
def network() -> frequency.FrequencyNetwork:
    return frequency.network()


@pytest.fixture(scope="module")
def images() -> NDArray[np.int64]:
    return digits.load().test_images.reshape(-1, 8, 8)


def test_figures_are_those_of_the_file(
    network: frequency.FrequencyNetwork, images: NDArray[np.int64]
) -> None:
    labels = digits.load().test_labels
    measured = network.measured
    accuracy = digits.accuracy(network.classify(images), labels)
    assert accuracy == pytest.approx(measured["test_accuracy"])
    assert network.work(images) == {name: measured[name] for name in network.work(images[:1])}
    # Also when a silenced row, which takes none, is charged a whole plane.
    assert measured["planes_per_row"] + measured["silenced"] <= 2.41
    assert accuracy >= measured["dense_test_accuracy"] - 2


def test_accuracy_is_the_same_without_termination(
    network: frequency.FrequencyNetwork, images: NDArray[np.int64]
) -> None:
    def patient(
        spec: BitPlaneSpec, vectors: NDArray[np.int64], thresholds: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        outcome = bitplane.transform(spec, vectors, thresholds, terminate=False)
        assert (outcome.row_planes == spec.planes).all()
        return outcome.result

    assert np.array_equal(network.classify(images), network.classify(images, patient))


def test_inputs_use_every_plane(
    network: frequency.FrequencyNetwork, images: NDArray[np.int64]
) -> None:
    """The planes that are saved are not empty ones on top of narrow inputs."""
    for stage, vectors in zip(network.stages, network.vectors(images), strict=True):
        assert np.abs(vectors).max() == (1 << stage.spec.planes) - 1


def test_network_runs_through_the_rtl(
    network: frequency.FrequencyNetwork, images: NDArray[np.int64], tmp_path: Path
) -> None:
    """The array of each stage is the Verilog; classes, results and planes are the golden ones."""
    few = images[:3]

    def rtl(
        spec: BitPlaneSpec, vectors: NDArray[np.int64], thresholds: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        given, found = tmp_path / "given.npz", tmp_path / "found.npz"
        np.savez(given, act=vectors, threshold=thresholds)
        settings = {"input": str(given), "output": str(found)}
        result = runner.run(
            to_verilog(spec),
            module_name(spec),
            "mulfree_sim.benches.bitplane_vectors",
            simulator="icarus",
            seed=1,
            environment={
                "MULFREE_SPEC": spec.to_json(),
                "MULFREE_SETTINGS": json.dumps(settings),
            },
        )
        assert result.passed, result.log[-2000:]
        out = np.load(found)
        expected = bitplane.transform(spec, vectors, thresholds)
        assert np.array_equal(out["result"], expected.result)
        assert np.array_equal(out["planes"], expected.array_planes)
        assert out["row_planes"] == expected.row_planes.sum()
        return out["result"]

    assert np.array_equal(network.classify(few, rtl), network.classify(few))


def row_sum_histogram(
    network: frequency.FrequencyNetwork, images: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the row sums −16…16 of every plane, as the levels 0…32 of a 6-bit digitiser."""
    counts = np.zeros(64, dtype=np.int64)
    for stage, vectors in zip(network.stages, network.vectors(images), strict=True):
        sums = bitplane.plane_sums(stage.spec, vectors)
        counts += np.bincount(sums.ravel() + frequency.BLOCK, minlength=64)
    return counts


def test_search_tree_of_the_measured_histogram(
    network: frequency.FrequencyNetwork, images: NDArray[np.int64]
) -> None:
    """A tree built on the first half of the images, judged on the second, against its optimum."""
    built, judged = (row_sum_histogram(network, part) for part in (images[:180], images[180:]))
    spec = DigitizerSpec(mode="tree", bits=6, histogram=[built.tolist()])
    depths = best_tree(judged.tolist(), 63).depths()
    optimum = judged @ depths / judged.sum()
    average = digitizer_golden.average_comparisons(spec, judged)
    print(f"{average:.3f} comparisons of 6, optimum {optimum:.3f}")
    assert optimum <= average <= 1.05 * optimum


@pytest.mark.slow
def test_recipe_computes_what_the_integers_compute(images: NDArray[np.int64]) -> None:
    torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
    from mulfree_models.recipes import frequency as recipe

    data = recipe.digits_data()
    short = recipe.Data(*(part[:320] for part in vars(data).values()))
    trained = recipe.train(recipe.Recipe(epochs=3), short, say=lambda _: None)
    integers = trained.integers()
    layers, seen = trained.frequency_layers(), []
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        trained(torch.tensor(images, dtype=torch.float32))
    # The bias is rounded in one and not in the other: a step at most.
    first = integers.vectors(images)[0]
    assert np.abs(seen[0].permute(0, 2, 3, 1).numpy() * 255 - first).max() <= 1
    # From equal inputs, a layer's outputs are equal.
    for stage, layer, vectors in zip(
        integers.stages, layers, integers.vectors(images), strict=True
    ):
        flat = vectors.reshape(-1, vectors.shape[-1])
        spectrum = frequency.golden(stage.spec, flat, stage.thresholds).reshape(vectors.shape)
        x = torch.tensor(vectors, dtype=torch.float32).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            y = layer(x).numpy() * 255
        assert np.abs(y - stage.back(spectrum)).max() < 0.01
