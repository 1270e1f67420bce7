"""Integer networks as graphs, and their weights in another coding: powers of two."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from mulfree.formats import PowerOfTwo
from mulfree_models import digits
from mulfree_models.graph import Conv2D, Dense, Graph, Tensor
from mulfree_models.pot import PowerOfTwoWeights
from mulfree_models.quantise import Network, quantise, quantise_multiplier


@dataclass(frozen=True)
class Recoded:
    """What a layer's weights lost: `error` is the RMS difference over the RMS of the weights."""

    name: str
    error: float


def power_of_two(graph: Graph, coding: PowerOfTwo) -> tuple[Graph, list[Recoded]]:
    """Return the graph with weights that are powers of two, and what each layer lost.

    Each output channel has a scale of its own, which goes into its factor and its bias; weights are
    never scaled by what a batch normalisation left in the factor.
    """
    quantiser = PowerOfTwoWeights(coding)
    ops, report = [], []
    for op in graph.ops:
        if not isinstance(op, Conv2D | Dense):
            ops.append(op)
            continue
        rows = op.weights.reshape(len(op.weights), -1).astype(np.float64)
        found = quantiser(rows)
        ops.append(replace(scaled(op, found.scale), weights=found.values.reshape(op.weights.shape)))
        lost = found.values * found.scale[:, None] - rows
        error = np.sqrt((lost**2).sum() / max((rows**2).sum(), 1))
        report.append(Recoded(op.output, float(error)))
    return graph.with_ops(ops), report


def scaled(op: Conv2D | Dense, scale: ArrayLike) -> Conv2D | Dense:
    """Return a layer whose sums stand for `scale` as much as before, one number or one a channel.

    That is what coarser weights or activations make of them; the bias is coded in these steps.
    """
    real = op.multiplier * 2.0 ** (op.shift - 31) * np.asarray(scale, np.float64)
    pairs = [quantise_multiplier(float(r), 15 if op.wide else 31) for r in real]
    multiplier, shift = np.array(pairs, np.int64).T
    return replace(
        op,
        bias=np.rint(op.bias / scale).astype(np.int64),
        multiplier=multiplier << 16 if op.wide else multiplier,
        shift=shift,
    )


def as_graph(network: Network, name: str) -> Graph:
    """Return a network of fully connected layers as a graph; it rounds once."""
    first = network.layers[0].input
    size = network.layers[0].weights.values.shape[1]
    tensors = {"input": Tensor("input", (size,), first.integer, first.scale, first.zero_point)}
    ops, at = [], "input"
    for place, layer in enumerate(network.layers):
        weights, form = layer.weights.values, layer.output
        output = f"dense {place}"
        tensors[output] = Tensor(output, (len(weights),), form.integer, form.scale, form.zero_point)
        # The bias of a graph's operator is without what the zero point adds.
        bias = layer.parameters.bias + layer.input.zero_point * weights.sum(axis=1)
        ops.append(
            Dense(
                name="dense", inputs=(at,), output=output, weights=weights, bias=bias,
                multiplier=layer.parameters.multiplier, shift=layer.parameters.shift,
                low=layer.low, high=layer.high,
            )
        )  # fmt: skip
        at = output
    return Graph(name, tensors, tuple(ops), "input", at, "single")


def digits_graph() -> Graph:
    """Return the shipped digits network, quantised to 8 bits, as a graph."""
    samples = digits.scaled(digits.load().train_images)
    return as_graph(quantise(digits.network(), samples), "digits")
