"""A quantised network as importers give it: integer tensors and operators, in order.

Shapes are without the batch: (height, width, channels) or (channels,). What an operator computes is
in `reference`; the factors between scales are TFLite's multipliers and shifts,
``multiplier / 2^31 · 2^shift``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mulfree.formats import Int

Array = NDArray[np.int64]


#: Codes of the largest tensor, and rows of the largest kernel, that are believed.
MOST_CODES = 1 << 24
MOST_TAPS = 128


class ModelError(ValueError):
    """A model is damaged or not supported; the message is one sentence."""


@dataclass(frozen=True)
class Tensor:
    """Activations: ``real = scale · (code - zero_point)``."""

    name: str
    shape: tuple[int, ...]
    integer: Int
    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True)
class Op:
    """An operator: `name` as in the source model, names of its tensors."""

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, kw_only=True)
class Conv2D(Op):
    """A convolution; depthwise where `groups` is the number of input channels.

    Members
    -------
    weights : (outputs, height, width, inputs / groups), int64
    bias, multiplier, shift : (outputs,), int64
    stride, dilation : (y, x)
    padding : (top, left, bottom, right)
    low, high : int
        Range of the output.
    wide : bool
        Sums have 64 bits, multipliers 15 at the top of their 31, and there is one rounding:
        TFLite's way with 16-bit activations.
    """

    weights: Array
    bias: Array
    multiplier: Array
    shift: Array
    wide: bool = False
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Dense(Op):
    """A fully connected layer; `weights` has shape (outputs, inputs), the input is flattened.

    `rounding` is its own, where it differs from the graph's: TFLite rounds these layers once.
    """

    weights: Array
    bias: Array
    multiplier: Array
    shift: Array
    wide: bool = False
    rounding: str = ""
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Add(Op):
    """Sum of two tensors of one shape; `factors` are (multiplier, shift) of each and of the sum.

    Each input is first shifted to the left by `left_shift`.
    """

    factors: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    left_shift: int
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Pool(Op):
    """Maximum or average (`kind`) over windows; padding takes no part."""

    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Mean(Op):
    """Mean over height and width; the factor holds the number of pixels too."""

    multiplier: int
    shift: int


@dataclass(frozen=True, kw_only=True)
class Concat(Op):
    """Channels one after the other; all tensors have one scale and zero point."""


@dataclass(frozen=True, kw_only=True)
class Reshape(Op):
    """The same codes in another shape."""


@dataclass(frozen=True, kw_only=True)
class Pad(Op):
    """Pixels of the zero point around; `padding` is (top, left, bottom, right)."""

    padding: tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Rescale(Op):
    """Another scale, zero point or range (a lone ReLU or QUANTIZE)."""

    multiplier: int
    shift: int
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Softmax(Op):
    """TFLite's softmax over the last axis, 8 bits in and out."""

    beta: float


#: Operators that an importer may give, by the names that users know.
SUPPORTED = (
    "conv2d", "depthwise conv2d", "fully connected", "add", "average pool", "max pool", "mean over "
    "height and width", "concatenation of channels", "reshape", "pad", "relu", "relu6", "quantize",
    "softmax", "soft threshold (ONNX)",
)  # fmt: skip


@dataclass(frozen=True)
class Graph:
    """Operators in an order in which they can be computed.

    Members
    -------
    rounding : str
        ``single`` or ``double``, as of the requantizer; TFLite's reference kernels round twice.
    """

    name: str
    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    input: str
    output: str
    rounding: str = "double"

    def __post_init__(self) -> None:
        """Check that every operator finds its inputs."""
        known = {self.input}
        for place, op in enumerate(self.ops):
            for name in op.inputs:
                if name not in known:
                    raise ModelError(
                        f"operator {place} ({op.name}) must read what was computed before, "
                        f"not {name!r}"
                    )
            known.add(op.output)
        if self.output not in known:
            raise ModelError(f"output must be computed by an operator, not {self.output!r}")
        for tensor in self.tensors.values():
            _check_tensor(tensor)
        for op in self.ops:
            given = [self.tensors[name].shape for name in op.inputs]
            expected, own = _shape(op, given), self.tensors[op.output].shape
            if isinstance(op, Reshape | Mean | Dense) and not isinstance(expected, str):
                fine = math.prod(expected) == math.prod(own)  # ones may be left out
            else:
                fine = expected == own
            if not fine:
                raise ModelError(
                    f"{place_of(self, op)} must make shape {expected} of {given}, "
                    f"not {self.tensors[op.output].shape}"
                )

    def consumers(self, tensor: str) -> Iterator[Op]:
        """Yield the operators that read a tensor."""
        return (op for op in self.ops if tensor in op.inputs)

    def producer(self, tensor: str) -> Op | None:
        """Return the operator that makes a tensor, or None for the input."""
        return next((op for op in self.ops if op.output == tensor), None)

    def with_ops(self, ops: list[Op]) -> "Graph":
        """Return the graph with other operators."""
        return replace(self, ops=tuple(ops))


def place_of(graph: Graph, op: Op) -> str:
    """Return where an operator is, in words."""
    place = next(i for i, other in enumerate(graph.ops) if other is op)
    return f"operator {place} ({type(op).__name__.lower()} {op.output!r})"


def _check_tensor(tensor: Tensor) -> None:
    """Check that a tensor may be: what a damaged file states, may not."""
    if not all(n >= 1 for n in tensor.shape) or math.prod(tensor.shape) > MOST_CODES:
        raise ModelError(
            f"tensor {tensor.name!r} must have between 1 and {MOST_CODES} codes, "
            f"not shape {tensor.shape}"
        )
    if not (tensor.scale > 0 and math.isfinite(tensor.scale)):
        raise ModelError(f"tensor {tensor.name!r} must have a scale above 0, not {tensor.scale}")
    if not tensor.integer.low <= tensor.zero_point <= tensor.integer.high:
        raise ModelError(
            f"tensor {tensor.name!r} must have a zero point of {tensor.integer.bits} bits, "
            f"not {tensor.zero_point}"
        )


def _shape(op: Op, given: list[tuple[int, ...]]) -> tuple[int, ...] | str:
    """Return the shape that an operator makes, or what its inputs should be."""
    first = given[0]
    match op:
        case Conv2D() | Pool() | Mean() | Pad() if len(first) != 3:
            return "something of a map"
        case Conv2D():
            outputs, *kernel, inner = op.weights.shape
            if inner * op.groups != first[2] or outputs % op.groups or len(op.bias) != outputs:
                return f"something of {inner * op.groups} channels"
            return *_size(first, kernel, op.stride, op.dilation, op.padding), outputs
        case Pool():
            return *_size(first, op.kernel, op.stride, (1, 1), op.padding), first[2]
        case Dense():
            if op.weights.ndim != 2 or op.weights.shape[1] != math.prod(first):
                return f"something of {op.weights.shape[-1]} codes"
            return (len(op.weights),)
        case Add():
            return first if given[1] == first else "one of equal shapes"
        case Mean():
            return (first[2],)
        case Concat():
            if len({shape[:-1] for shape in given}) != 1:
                return "one of equal maps"
            return *first[:-1], sum(shape[-1] for shape in given)
        case Pad():
            top, left, bottom, right = op.padding
            return first[0] + top + bottom, first[1] + left + right, first[2]
    return first


def _size(
    first: tuple[int, ...], kernel: Sequence[int], stride: tuple[int, int],
    dilation: tuple[int, int], padding: tuple[int, int, int, int],
) -> tuple[int, int]:  # fmt: skip
    """Return height and width of what a kernel makes; 0 where it is none."""
    found = []
    for n, k, s, d, *pads in zip(first, kernel, stride, dilation, padding, padding[2:],
                                 strict=False):  # fmt: skip
        span = (k - 1) * d + 1
        fine = 1 <= k <= MOST_TAPS and 1 <= s <= MOST_TAPS and 1 <= d <= MOST_TAPS
        fine = fine and all(0 <= p < span for p in pads)
        found.append((n + sum(pads) - span) // s + 1 if fine else 0)
    return found[0], found[1]
