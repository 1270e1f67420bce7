"""Fine-tunes the digits network for power-of-two weights: ``python -m mulfree_models.recipes.pot``.

For each width, the shipped network is quantised and fine-tuned; for the pruned one, every layer
then loses the lowest exponent codes that `BUDGET` allows, and is fine-tuned again with the zeros
held. What is measured: float activations (`test_accuracy`) and the whole network in 8-bit
activations (`integer_accuracy`), both on the 360 held-out images, which no training step sees.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mulfree.files import write_bytes
from mulfree.formats import PowerOfTwo
from mulfree_models import digits, pot
from mulfree_models.digits import FloatLayer, FloatNetwork
from mulfree_models.quantise import quantise

#: Output error of a layer that pruning may cause before it is fine-tuned away.
BUDGET = 0.1
EPOCHS = 60


def train(bits: int, pruned: bool) -> FloatNetwork:
    """Make one network from the shipped float network."""
    data = digits.load()
    x, labels = digits.scaled(data.train_images), data.train_labels
    quantiser = pot.PowerOfTwoWeights(PowerOfTwo(bits))
    tuned = pot.fine_tune(digits.network(), quantiser, x, labels, epochs=EPOCHS)
    if pruned:
        masks = [
            pot.prune_layer(quantiser(layer.weights), inputs, BUDGET).mask
            for layer, inputs in zip(tuned.layers, tuned.activations(x), strict=False)
        ]
        tuned = pot.fine_tune(tuned, quantiser, x, labels, masks=masks, epochs=EPOCHS)
    kept = tuple(_single(layer) for layer in tuned.layers)
    return FloatNetwork(kept, measure(FloatNetwork(kept, {}), bits))


def _single(layer: FloatLayer) -> FloatLayer:
    """Return a layer as the file keeps it: rows whose levels survive single precision."""

    def short(a: NDArray[np.float64]) -> NDArray[np.float64]:
        return a.astype(np.float32).astype(np.float64)

    return FloatLayer(short(layer.weights), short(layer.bias), layer.relu)


def measure(network: FloatNetwork, bits: int) -> dict[str, float]:
    """Return accuracies in percent and the share of zero weights."""
    data = digits.load()
    quantiser = pot.PowerOfTwoWeights(PowerOfTwo(bits))
    integers = quantise(network, digits.scaled(data.train_images), quantiser)
    x = digits.scaled(data.test_images)
    zeros = sum(int((layer.weights == 0).sum()) for layer in network.layers)
    return {
        "test_accuracy": round(digits.accuracy(network.classify(x), data.test_labels), 4),
        "integer_accuracy": round(digits.accuracy(integers.classify(x), data.test_labels), 4),
        "sparsity": round(zeros / sum(layer.weights.size for layer in network.layers), 4),
    }


def post_training(bits: int) -> dict[str, float]:
    """Return what `measure` finds without any fine-tuning."""
    quantiser = pot.PowerOfTwoWeights(PowerOfTwo(bits))
    return measure(pot.rounded(digits.network(), quantiser), bits)


def main() -> None:
    """Train and write the files that the package ships."""
    folder = Path(__file__).parents[1] / "data"
    for bits in pot.SHIPPED:
        print(f"{bits} bits, post-training: {post_training(bits)}")
        for pruned in (False, True):
            network = train(bits, pruned)
            content = io.BytesIO()
            digits.save(network, content)
            path = folder / pot.file_name(bits, pruned)
            write_bytes(path, content.getvalue())
            print(f"{path.name}: {len(content.getvalue())} bytes, {network.measured}", flush=True)


if __name__ == "__main__":
    main()
