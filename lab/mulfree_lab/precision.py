"""A network at other precisions: each layer's weights and activations in fewer bits.

What comes out is a graph in integers still, which the reference computes bit for bit: coarser
activations are a rescaling before a layer, coarser weights a factor behind it. Nothing is
trained again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mulfree.formats import Int, PowerOfTwo
from mulfree_lab.choices import Choice
from mulfree_models import reference
from mulfree_models.graph import Array, Conv2D, Dense, Graph, ModelError, Op, Rescale, Softmax
from mulfree_models.pot import PowerOfTwoWeights
from mulfree_models.quantise import QuantisedWeights, WeightQuantiser, quantise_multiplier
from mulfree_models.recode import scaled

#: Ranges that are tried, as shares of the whole.
RANGES = np.linspace(1.0, 0.4, 13)
#: Activations of a tensor that its ranges are judged by.
SAMPLES = 20_000
#: Widest activations and weights that a graph may have here.
BITS = 8


@dataclass(frozen=True)
class LeastSquares:
    """Weight quantiser: two's complement of `bits` bits, the scale of least error for each row."""

    bits: int

    def __call__(self, weights: NDArray[np.float64]) -> QuantisedWeights:
        """Quantise rows of real weights."""
        high = Int(self.bits).high
        largest = np.abs(weights).max(axis=1, keepdims=True)
        least = np.where(largest > 0, largest, 1.0)
        tried = [least * (part / high) for part in RANGES]
        coded = [np.clip(np.rint(weights / scale), -high, high) for scale in tried]
        off = [((c * s - weights) ** 2).sum(axis=1) for c, s in zip(coded, tried, strict=True)]
        best = np.argmin(off, axis=0)
        rows = np.arange(len(weights))
        codes = np.stack(coded)[best, rows].astype(np.int64)
        return QuantisedWeights(codes, codes, np.stack(tried)[best, rows, 0])


def quantiser(choice: Choice) -> WeightQuantiser:
    """Return what codes the weights of a choice."""
    if choice.kind == "pot":
        return PowerOfTwoWeights(PowerOfTwo(choice.weight_bits, choice.terms))
    return LeastSquares(choice.weight_bits)


@dataclass(frozen=True)
class Step:
    """How a tensor is coded more coarsely: the new integers, and old steps in a new one."""

    integer: Int
    factor: float


def coarser(codes: Array, bits: int) -> Step:
    """Return the coding of least squared error for codes whose zero is 0."""
    integer = Int(bits, bool((codes < 0).any()))
    ends = max(codes.max() / integer.high, codes.min() / integer.low if integer.signed else 0.0)
    tried = [float(part * ends) or 1.0 for part in RANGES]
    off = [
        np.square(np.clip(np.rint(codes / f), integer.low, integer.high) * f - codes).sum()
        for f in tried
    ]
    return Step(integer, tried[int(np.argmin(off))])


class Precisions:
    """Makes graphs of mixed precision out of one of 8 bits.

    Parameters
    ----------
    codes
        Inputs whose activations set the ranges.

    Raises
    ------
    ModelError
        The graph has activations of more than 8 bits.
    """

    def __init__(self, graph: Graph, codes: Array) -> None:
        if any(tensor.integer.bits > BITS for tensor in graph.tensors.values()):
            raise ModelError(f"{graph.name} must have activations of at most {BITS} bits")
        self.graph = graph
        self.layers = [op for op in graph.ops if isinstance(op, Conv2D | Dense)]
        read = {op.inputs[0] for op in self.layers}
        found = {graph.input: codes} | {
            op.output: out for op, out in reference.activations(graph, codes) if op.output in read
        }
        self._samples = {
            name: _sample(found[name] - graph.tensors[name].zero_point) for name in read
        }

    def macs(self) -> dict[str, int]:
        """Return the products of each layer in an inference, by its output's name."""
        return {op.output: _macs(self.graph, op) for op in self.layers}

    def apply(self, chosen: Mapping[str, Choice]) -> Graph:
        """Return the graph with each layer of `chosen` computed as it says."""
        tensors, ops = dict(self.graph.tensors), []
        for op in self.graph.ops:
            choice = chosen.get(op.output)
            if choice is None or not isinstance(op, Conv2D | Dense):
                ops.append(op)
                continue
            source = self.graph.tensors[op.inputs[0]]
            if choice.act_bits < source.integer.bits:
                step = coarser(self._samples[source.name], choice.act_bits)
                rescale = _rescale(source.name, f"{source.name}, for {op.output}", step)
                tensors[rescale.output] = replace(
                    source, name=rescale.output, integer=step.integer,
                    scale=source.scale * step.factor, zero_point=0,
                )  # fmt: skip
                ops.append(rescale)
                op = replace(scaled(op, step.factor), inputs=(rescale.output,))
            if choice.kind == "pot" or choice.weight_bits < BITS:
                rows = op.weights.reshape(len(op.weights), -1).astype(np.float64)
                coded = quantiser(choice)(rows)
                op = replace(
                    scaled(op, coded.scale), weights=coded.values.reshape(op.weights.shape)
                )
            ops.append(op)
        return replace(self.graph, tensors=tensors, ops=tuple(ops))


def decisions(graph: Graph, codes: Array) -> Array:
    """Return what the classes are judged by, shape (n, classes): before a softmax, if there is."""
    last = graph.producer(graph.output)
    wanted = last.inputs[0] if isinstance(last, Softmax) else graph.output
    found = next(out for op, out in reference.activations(graph, codes) if op.output == wanted)
    return found.reshape(len(found), -1)


def _sample(codes: Array) -> Array:
    flat = codes.ravel()
    return flat[:: -(-flat.size // SAMPLES)]


def _rescale(source: str, output: str, step: Step) -> Rescale:
    multiplier, shift = quantise_multiplier(1 / step.factor)
    low, high = step.integer.low, step.integer.high
    return Rescale(
        name="fewer bits", inputs=(source,), output=output, multiplier=multiplier, shift=shift,
        low=low, high=high,
    )  # fmt: skip


def _macs(graph: Graph, op: Op) -> int:
    assert isinstance(op, Conv2D | Dense)
    pixels = graph.tensors[op.output].shape[:-1] if isinstance(op, Conv2D) else ()
    return int(op.weights.size * np.prod(pixels, dtype=int))


def batches(codes: Array, size: int) -> list[Array]:
    """Return the inputs in parts of `size`, so that maps of all do not need to fit in memory."""
    return [codes[first : first + size] for first in range(0, len(codes), size)]
