"""ONNX models with QuantizeLinear and DequantizeLinear, and QONNX models with Quant.

Such a file computes in real numbers between quantised ones. Reading it follows the values: a
constant, codes with a scale, or a sum (of a convolution, an addition, …) that waits to be
quantised; batch normalisation, constant factors and terms, ReLU and Clip change what waits. The
next quantiser makes it an operator in integers, rounded once. Ties go to even in the file and up
here, so an output differs by one where a sum lies just between two codes: seldom, unless the scales
are powers of two. A bias is real in the file and an integer here; weights of few bits are shifted
up to 8 so that it is a fine one.

A soft threshold ``S_T(v) = sign(v) · max(|v| - T, 0)``, what a frequency layer has between its
transform and the one back, is two ReLUs: ``max(v - T, 0) - max(-v - T, 0)``. Each is a layer of its
own, which the requantizer ends; the next layer reads both, one with its weights and one with their
negatives. One of the two is always 0, so all that is rounded is what the file rounds.

Maps are height × width × channels here, and 8-bit unsigned codes count from -128.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mulfree.formats import Int
from mulfree_models.graph import (
    SUPPORTED,
    Add,
    Concat,
    Conv2D,
    Dense,
    Graph,
    ModelError,
    Op,
    Pad,
    Pool,
    Rescale,
    Reshape,
    Tensor,
)
from mulfree_models.quantise import quantise_multiplier

Real = NDArray[np.float64]
NO_LIMIT = (-math.inf, math.inf)
#: What to do where an operator that is known for soft thresholds does something else.
SHRINK_REMEDY = (
    "it is as part of a soft threshold, Sign(v) · Relu(Abs(v) - T) or Relu(v - T) - Relu(-v - T)"
)


@dataclass(frozen=True)
class Constant:
    """A constant; where it was quantised, `values` times `scale` (a row's, or one) is `real`."""

    real: NDArray
    values: NDArray[np.int64] | None = None
    scale: Real | None = None


@dataclass(frozen=True)
class Codes:
    """A quantised tensor; `flat` is the map's shape (h, w, c) where the file flattened it.

    With `split`, the first half of its channels less the second half is meant.
    """

    tensor: str
    flat: tuple[int, int, int] | None = None
    split: bool = False


@dataclass(frozen=True)
class Input:
    """The model's input before it is quantised."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Waiting:
    """A sum before it is quantised.

    Members
    -------
    kind : str
        ``conv``, ``dense``, ``add``, ``concat`` or ``same``.
    sources : tuple of Codes
    shape : tuple of int
    factor, term : (channels,)
        Real value: ``factor · sum of weights and codes + term``.
    limits : (low, high)
        Real values are clamped to these.
    """

    kind: str
    sources: tuple[Codes, ...]
    shape: tuple[int, ...]
    factor: Real
    term: Real
    limits: tuple[float, float] = NO_LIMIT
    weights: NDArray[np.int64] | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A part of a soft threshold: ``sign`` of a value, or its ``magnitude`` less a threshold.

    `clipped` magnitudes are 0 where they would be negative.
    """

    kind: str
    of: "Codes | Waiting"
    threshold: Real
    clipped: bool = False


@dataclass(frozen=True)
class Shrunk:
    """A soft threshold before it is quantised: what is above less what is below."""

    above: Waiting
    below: Waiting


Value = Constant | Codes | Input | Waiting | Part | Shrunk


def read(content: bytes, name: str) -> Graph:
    """Return the graph of an ONNX file.

    Raises
    ------
    ModelError
        The file is damaged, something in it is not supported, or the package onnx is missing.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ModelError(
            "reading .onnx must have the package onnx, which is missing: pip install mulfree[onnx]"
        ) from None
    try:
        model = onnx.load_from_string(content)
        if not model.graph.node:
            raise ModelError(f"{name}.onnx must be an ONNX model, not a file without operators")
        return _Reader(model, name).graph()
    except ModelError:
        raise
    except (DecodeError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{name}.onnx must be a whole ONNX model, not a damaged one ({error})"
        ) from None


class _Reader:
    """One file, node by node."""

    def __init__(self, model: Any, name: str) -> None:
        import onnx

        self.onnx = onnx
        self.name = name
        self.source = model.graph
        self.values: dict[str, Value] = {
            i.name: Constant(onnx.numpy_helper.to_array(i)) for i in self.source.initializer
        }
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.input = ""
        self.place = 0
        self.node: Any = None

    def graph(self) -> Graph:
        """Return the graph."""
        inputs = [i for i in self.source.input if i.name not in self.values]
        for what, found in (("input", inputs), ("output", self.source.output)):
            if len(found) != 1:
                raise ModelError(f"model must have one {what}, not {len(found)}")
        dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
        if not dims or any(d < 1 for d in dims[1:]) or dims[0] > 1:
            raise ModelError(f"input must have a fixed shape and a batch of 1, not {dims}")
        self.values[inputs[0].name] = Input(tuple(dims[1:]))
        for place, node in enumerate(self.source.node):
            self.place, self.node = place, node
            self.visit(node)
        end = self.values[self.source.output[0].name]
        if isinstance(end, Waiting):
            end = self.settle(end, self.source.output[0].name, *self.covering(end))
        if not isinstance(end, Codes) or not self.input:
            raise ModelError("model must quantise its input and its output, not leave them real")
        if end.split:
            raise ModelError("model must have a layer behind a soft threshold, not end with it")
        return Graph(self.name, self.tensors, tuple(self.ops), self.input, end.tensor, "single")

    def refusal(self, what: str, remedy: str) -> ModelError:
        """Return the error for the node at hand."""
        label = self.node.name or self.node.output[0]
        about = f" {what}" if what else ""
        return ModelError(
            f"operator {self.place} ({self.node.op_type} {label!r}) of {self.name}{about} is not "
            f"supported: {remedy}"
        )

    def visit(self, node: Any) -> None:
        """Follow the values through a node."""
        given = [self.values[i] for i in node.input if i]
        a = {x.name: self.onnx.helper.get_attribute_value(x) for x in node.attribute}
        kind = node.op_type
        if kind in ("QuantizeLinear", "Quant", "BipolarQuant"):
            found = self.quantise(given, a)
        elif kind == "DequantizeLinear":
            found = self.dequantise(given, a)
        elif all(isinstance(v, Constant) for v in given):
            found = self.fold(node, given)
        else:
            handler = HANDLERS.get(kind)
            if handler is None:
                raise self.refusal(
                    "", f"replace it, or cut the model before it; supported are "
                    f"{', '.join(SUPPORTED)}",
                )  # fmt: skip
            found = handler(self, given, a)
        self.values[node.output[0]] = found

    def fold(self, node: Any, given: list[Any]) -> Constant:
        """Compute a node of constants."""
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(node)
        names = [i for i in node.input if i]
        feeds = {n: v.real for n, v in zip(names, given, strict=True)}
        real = np.asarray(session.run(None, feeds)[0])
        first = given[0] if given else None
        if isinstance(first, Constant) and first.values is not None and node.op_type in (
            "Transpose", "Reshape", "Identity", "Flatten", "Unsqueeze", "Squeeze",
        ) and first.scale is not None and first.scale.size == 1:  # fmt: skip
            feeds[names[0]] = first.values
            values = np.asarray(session.run(None, feeds)[0])
            return Constant(real, values.astype(np.int64), first.scale.reshape(()))
        return Constant(real)

    # Quantisers

    def parameters(self, given: list[Value], a: dict[str, Any]) -> tuple[Any, Any, Int, int]:
        """Return scale, zero point, integer and lowest code of the quantiser at hand."""
        scale = self.constant(given[1])
        if self.node.op_type == "BipolarQuant":
            return scale, np.zeros(1), Int(2), -1
        if self.node.op_type == "Quant":
            bits = float(self.constant(given[3]).reshape(-1)[0])
            if bits != int(bits) or not 1 <= bits <= 32:
                raise self.refusal(f"of {bits} bits", "use a whole number of bits")
            mode = a.get("rounding_mode", b"ROUND")
            if mode not in (b"ROUND", b"HALF_EVEN", b"ROUND_TO_EVEN"):
                raise self.refusal(f"with rounding mode {mode.decode()}", "use ROUND")
            integer = Int(int(bits), bool(a.get("signed", 1)))
            low = integer.low + bool(a.get("narrow", 0))
            return scale, self.constant(given[2]), integer, low
        zero = given[2].real if len(given) > 2 and isinstance(given[2], Constant) else np.uint8([0])
        kinds = {"int8": Int(8), "uint8": Int(8, False), "int16": Int(16), "int32": Int(32)}
        if str(zero.dtype) not in kinds:
            raise self.refusal(f"to {zero.dtype}", f"use one of {', '.join(kinds)}")
        integer = kinds[str(zero.dtype)]
        return scale, zero, integer, integer.low

    def constant(self, value: Value) -> Real:
        """Return a constant's real values."""
        if not isinstance(value, Constant):
            raise self.refusal("with a parameter that is not constant", "make it an initializer")
        return value.real.astype(np.float64)

    def one(self, what: str, values: Real) -> float:
        """Return the one value that an activation's parameter has."""
        values = np.unique(values)
        if len(values) != 1:
            raise self.refusal(f"with several {what}s of an activation", f"use one {what}")
        return float(values[0])

    def quantise(self, given: list[Value], a: dict[str, Any]) -> Value:
        """QuantizeLinear, Quant, BipolarQuant."""
        scale, zero, integer, low = self.parameters(given, a)
        value = given[0]
        if isinstance(value, Constant):
            shaped = self.along(scale, value.real, a)
            zeros = self.along(zero.astype(np.float64), value.real, a)
            if self.node.op_type == "BipolarQuant":
                codes = np.where(value.real >= 0, 1.0, -1.0)
            else:
                codes = np.clip(np.rint(value.real / shaped + zeros), low, integer.high) - zeros
            if not (codes == np.rint(codes)).all():
                raise self.refusal("with a zero point that is not whole", "use a whole number")
            return Constant(codes * shaped, codes.astype(np.int64), np.asarray(shaped))
        if self.node.op_type == "BipolarQuant":
            raise self.refusal("of an activation", "use Quant with 2 bits or more")
        zero_point = self.one("zero point", zero)
        if zero_point != int(zero_point):
            raise self.refusal(f"with zero point {zero_point}", "use a whole number")
        step = self.one("scale", scale)
        return self.settle(value, self.node.output[0], step, int(zero_point), integer, low)

    def dequantise(self, given: list[Value], a: dict[str, Any]) -> Value:
        """DequantizeLinear: nothing for codes, the real numbers for constants."""
        value = given[0]
        if isinstance(value, Constant):
            if value.values is not None:
                return value
            scale = self.along(self.constant(given[1]), value.real, a)
            zero = 0 if len(given) < 3 else self.along(self.constant(given[2]), value.real, a)
            codes = value.real.astype(np.int64) - np.asarray(zero).astype(np.int64)
            return Constant(codes * scale, codes, np.asarray(scale))
        if isinstance(value, Input):
            scale, zero, integer, low = self.parameters(given, a)
            return self.settle(
                value, self.node.input[0], self.one("scale", scale),
                int(self.one("zero point", zero)), integer, low,
            )  # fmt: skip
        return value

    def along(self, parameter: Real, real: NDArray, a: dict[str, Any]) -> Real:
        """Return a parameter in a shape that broadcasts with the tensor."""
        if parameter.ndim == 1 and parameter.size > 1:
            shape = [1] * real.ndim
            shape[a.get("axis", 1)] = -1
            return parameter.reshape(shape)
        return parameter.reshape(()) if parameter.size == 1 else parameter

    def settle(
        self, value: Value, name: str, scale: float, zero_point: int, integer: Int, low: int
    ) -> Codes:
        """Make a value codes of a tensor of its own, with the operator that computes them."""
        high = integer.high
        if integer == Int(8, False):
            integer, zero_point, low, high = Int(8), zero_point - 128, low - 128, high - 128
        if isinstance(value, Input):
            shape = _map_shape(value.shape)
            if self.input:
                raise self.refusal("of the input a second time", "quantise the input once")
            self.input = name
            self.tensors[name] = Tensor(name, shape, integer, scale, zero_point)
            return Codes(name)
        if isinstance(value, Codes):
            old = self.tensors[self.codes(value).tensor]
            if (old.scale, old.zero_point, old.integer) == (scale, zero_point, integer) and (
                low == integer.low
            ):
                return value
            value = self.same(value)
        if isinstance(value, Shrunk):
            return self.settle_shrunk(value, name, scale, zero_point, integer, low, high)
        if not isinstance(value, Waiting):
            raise self.refusal("of a part of a soft threshold", SHRINK_REMEDY)
        self.tensors[name] = tensor = Tensor(name, value.shape, integer, scale, zero_point)
        low, high = (
            int(np.clip(np.rint(end / scale) + zero_point, low, high)) for end in value.limits
        )
        self.ops.append(self.operator(value, tensor, low, high))
        return Codes(name, value.sources[0].flat if value.kind == "same" else None)

    def settle_shrunk(
        self, value: Shrunk, name: str, scale: float, zero_point: int, integer: Int, low: int,
        high: int,
    ) -> Codes:  # fmt: skip
        """Make the two ReLUs of a soft threshold codes of tensors of their own, side by side."""
        halves = []
        for half, side, reach in (
            (value.above, "above", high - zero_point),
            (value.below, "below", zero_point - low),
        ):
            half = replace(half, limits=(0.0, reach * scale))
            place = f"{name} ({side})"
            self.settle(half, place, scale, integer.low, integer, integer.low)
            halves.append(place)
        shape = *value.above.shape[:-1], 2 * value.above.shape[-1]
        self.tensors[name] = Tensor(name, shape, integer, scale, integer.low)
        self.ops.append(Concat(name=self.node.op_type, inputs=tuple(halves), output=name))
        return Codes(name, split=True)

    def covering(self, value: Waiting) -> tuple[float, int, Int, int]:
        """Return 8 bits that cover every real value of an output that is not quantised."""
        if value.weights is None:
            raise ModelError("model must quantise its output, not leave it real")
        tensor = self.tensors[value.sources[0].tensor]
        flat = value.weights.reshape(len(value.weights), -1)
        ends = np.array([tensor.integer.low, tensor.integer.high]) - tensor.zero_point
        most = np.abs(flat[..., None] * ends).max(axis=-1).sum(axis=-1) * np.abs(value.factor)
        return float((most + np.abs(value.term)).max() / 127), 0, Int(8), -127

    def operator(self, value: Waiting, target: Tensor, low: int, high: int) -> Op:
        """Return the operator that computes what waits."""
        common: dict[str, Any] = {
            "name": self.node.op_type,
            "inputs": tuple(s.tensor for s in value.sources),
            "output": target.name,
        }
        sources = [self.tensors[s.tensor] for s in value.sources]
        if value.kind in ("conv", "dense"):
            assert value.weights is not None
            weights, factor = value.weights, value.factor
            turned = factor < 0  # a factor is positive: the channel's weights turn instead
            weights = np.where(turned.reshape(-1, *(1,) * (weights.ndim - 1)), -weights, weights)
            factor = np.where(factor == 0, 1e-30, np.abs(factor))
            bias = value.term / factor
            if np.abs(bias - np.rint(bias)).max() > 1e-3:
                places = (127 // max(int(np.abs(weights).max()), 1)).bit_length() - 1
                weights, factor = weights << max(places, 0), factor / (1 << max(places, 0))
            pairs = [quantise_multiplier(f / target.scale) for f in factor]
            multiplier, shift = np.array(pairs, np.int64).T
            bias = np.rint(value.term / factor)
            if (np.abs(bias) >= 1 << 31).any():
                raise self.refusal("with a bias beyond 32 bits", "check the scales")
            common |= {
                "weights": weights, "bias": bias.astype(np.int64), "multiplier": multiplier,
                "shift": shift, "low": low, "high": high,
            }  # fmt: skip
            return (Conv2D if value.kind == "conv" else Dense)(**common, **value.options)
        if value.kind == "add":
            twice = 2 * max(s.scale for s in sources)
            factors = [quantise_multiplier(s.scale / twice) for s in sources]
            total = quantise_multiplier(twice / ((1 << 20) * target.scale))
            return Add(
                **common, factors=(factors[0], factors[1], total), left_shift=20, low=low, high=high
            )
        if value.kind == "concat":
            common["inputs"] = tuple(self.rescaled(s, target) for s in sources)
            return Concat(**common)
        multiplier, shift = quantise_multiplier(float(value.factor[0]) / target.scale)
        return Rescale(**common, multiplier=multiplier, shift=shift, low=low, high=high)

    def rescaled(self, source: Tensor, target: Tensor) -> str:
        """Return a tensor with the target's scale, made where the source has another."""
        form = target.scale, target.zero_point, target.integer
        if (source.scale, source.zero_point, source.integer) == form:
            return source.name
        name = f"{source.name} for {target.name}"
        self.tensors[name] = replace(target, name=name, shape=source.shape)
        multiplier, shift = quantise_multiplier(source.scale / target.scale)
        self.ops.append(
            Rescale(
                name="Concat", inputs=(source.name,), output=name, multiplier=multiplier,
                shift=shift, low=target.integer.low, high=target.integer.high,
            )
        )  # fmt: skip
        return name

    # Operators

    def codes(self, value: Value) -> Codes:
        """Return a value that must be quantised already."""
        if not isinstance(value, Codes):
            raise self.refusal("on a value that is not quantised", "put a quantiser before it")
        if value.split:
            raise self.refusal("on a soft threshold", "put a convolution or MatMul between them")
        return value

    def both(self, value: Value, weights: NDArray[np.int64], groups: int = 1) -> tuple[
        Codes, NDArray[np.int64], int
    ]:  # fmt: skip
        """Return codes that a layer reads, its weights (outputs, inputs, …), and its groups.

        Behind a soft threshold there are twice as many inputs, the second half subtracted, and one
        group, because those of a group do not lie side by side.
        """
        if not isinstance(value, Codes) or not value.split:
            return self.codes(value), weights, groups
        each, inner = len(weights) // groups, weights.shape[1]
        wide = np.zeros((len(weights), groups, inner, *weights.shape[2:]), np.int64)
        rows = np.arange(len(weights))
        wide[rows, rows // each] = weights
        wide = wide.reshape(len(weights), groups * inner, *weights.shape[2:])
        return value, np.concatenate([wide, -wide], axis=1), 1

    def same(self, value: Codes) -> Waiting:
        """Return codes as something that waits to be quantised anew."""
        tensor = self.tensors[value.tensor]
        return Waiting("same", (value,), tensor.shape, np.array([tensor.scale]), np.zeros(1))

    def waiting(self, value: Value) -> Waiting:
        """Return a value as something that waits."""
        return value if isinstance(value, Waiting) else self.same(self.codes(value))

    def conv(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Conv."""
        values, scale = self.weights(given[1])
        if values.ndim != 4:
            raise self.refusal(f"of {values.ndim - 2} dimensions", "use two")
        source, values, groups = self.both(given[0], values, a.get("group", 1))
        tensor = self.tensors[source.tensor]
        kernel, stride = values.shape[2:], _pair(a.get("strides", [1, 1]))
        dilation = _pair(a.get("dilations", [1, 1]))
        padding = self.padding(a, tensor.shape, kernel, stride, dilation)
        size = _size(tensor.shape, kernel, stride, dilation, padding)
        scale = np.broadcast_to(scale.reshape(-1), len(values)) * tensor.scale
        term = self.constant(given[2]).reshape(-1) if len(given) > 2 else np.zeros(len(values))
        return Waiting(
            "conv", (source,), (*size, len(values)), scale, term,
            weights=values.transpose(0, 2, 3, 1),
            options={"stride": stride, "dilation": dilation, "padding": padding, "groups": groups},
        )  # fmt: skip

    def weights(self, value: Value) -> tuple[NDArray[np.int64], Real]:
        """Return a layer's quantised weights and their scales.

        Weights of one magnitude, a Walsh-Hadamard matrix say, are signs and need no quantiser.
        """
        if isinstance(value, Constant) and value.values is None:
            magnitudes = np.unique(np.abs(value.real[value.real != 0]))
            if len(magnitudes) == 1:
                return np.sign(value.real).astype(np.int64), magnitudes.astype(np.float64)
        if not isinstance(value, Constant) or value.values is None or value.scale is None:
            raise self.refusal("with weights that are not quantised", "quantise its weights")
        return value.values, value.scale

    def padding(
        self, a: dict[str, Any], shape: tuple[int, ...], kernel: tuple[int, ...],
        stride: tuple[int, int], dilation: tuple[int, int],
    ) -> tuple[int, int, int, int]:  # fmt: skip
        """Return (top, left, bottom, right)."""
        auto = a.get("auto_pad", b"NOTSET")
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            ends = []
            for n, k, s, d in zip(shape, kernel, stride, dilation, strict=False):
                total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
                small = total // 2
                ends.append((small, total - small) if auto == b"SAME_UPPER" else
                            (total - small, small))  # fmt: skip
            (top, bottom), (left, right) = ends
            return top, left, bottom, right
        top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
        return top, left, bottom, right

    def gemm(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Gemm or MatMul with constant weights."""
        values, scale = self.weights(given[1])
        if a.get("transA") or a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0:
            raise self.refusal("with transA, alpha or beta", "use the defaults")
        if not a.get("transB"):
            values, scale = values.T, scale.T if scale.ndim == 2 else scale
        source, values, _ = self.both(given[0], values)
        if source.flat is not None:
            # Columns in the file's order, channels first, to the map's.
            h, w, c = source.flat
            values = values.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(values), -1)
        tensor = self.tensors[source.tensor]
        scale = np.broadcast_to(scale.reshape(-1), len(values)) * tensor.scale
        term = np.zeros(len(values))
        if len(given) > 2:
            term = term + self.constant(given[2]).reshape(-1)
        return Waiting("dense", (source,), (len(values),), scale, term, weights=values)

    def affine(self, value: Value, factor: Real, term: Real) -> Waiting:
        """Return a value times a factor plus a term, of each channel."""
        if isinstance(value, Codes):
            value = self.as_depthwise(value)
        if not isinstance(value, Waiting) or value.weights is None or value.limits != NO_LIMIT:
            raise self.refusal(
                "that is not right behind a convolution or dense layer", "quantise before it"
            )
        count = len(value.factor)
        factor, term = (np.asarray(p, np.float64).reshape(-1) for p in (factor, term))
        if factor.size not in (1, count) or term.size not in (1, count):
            raise self.refusal("by more than a number a channel", "use one a channel")
        return replace(value, factor=value.factor * factor, term=value.term * factor + term)

    def as_depthwise(self, value: Codes) -> Waiting:
        """Return codes as a convolution that leaves them as they are."""
        tensor = self.tensors[self.codes(value).tensor]
        if len(tensor.shape) != 3:
            raise self.refusal("of a vector", "fold it into the layer before")
        channels = tensor.shape[2]
        return Waiting(
            "conv", (value,), tensor.shape, np.full(channels, tensor.scale), np.zeros(channels),
            weights=np.ones((channels, 1, 1, 1), np.int64), options={"groups": channels},
        )  # fmt: skip

    def batch_norm(self, given: list[Value], a: dict[str, Any]) -> Value:
        """BatchNormalization."""
        gamma, beta, mean, variance = (self.constant(v) for v in given[1:5])
        factor = gamma / np.sqrt(variance + a.get("epsilon", 1e-5))
        return self.affine(given[0], factor, beta - mean * factor)

    def multiply(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Mul by a constant."""
        del a
        if all(isinstance(v, Part) for v in given):
            return self.signed_magnitude(given)
        value, constant = self.with_constant(given)
        return self.affine(value, constant, np.zeros(1))

    def with_constant(self, given: list[Value]) -> tuple[Value, Real]:
        """Return the value and the constant of a node with both."""
        first, second = given
        if isinstance(first, Constant):
            first, second = second, first
        return first, self.constant(second)

    def add(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Add of a constant, or of two maps."""
        del a
        if any(isinstance(v, Constant) for v in given):
            value, constant = self.with_constant(given)
            return self.plus(value, constant)
        first, second = (self.codes(v) for v in given)
        shape = self.tensors[first.tensor].shape
        if shape != self.tensors[second.tensor].shape:
            raise self.refusal("of two shapes", "add tensors of one shape")
        return Waiting("add", (first, second), shape, np.ones(1), np.zeros(1))

    def plus(self, value: Value, constant: Real) -> Value:
        """Return a value plus a constant."""
        if isinstance(value, Part) and value.kind == "magnitude" and not value.clipped:
            return replace(value, threshold=value.threshold - constant.reshape(-1))
        return self.affine(value, np.ones(1), constant)

    def subtract(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Sub with a constant, or of the two ReLUs of a soft threshold."""
        del a
        first, second = given
        if isinstance(second, Constant):
            return self.plus(first, -self.constant(second))
        if isinstance(first, Constant):
            return self.affine(second, -np.ones(1), self.constant(first))
        if not (
            isinstance(first, Waiting)
            and isinstance(second, Waiting)
            and first.kind in ("conv", "dense")
            and first.limits == second.limits == (0.0, math.inf)
            and (first.kind, first.sources, first.options)
            == (second.kind, second.sources, second.options)
            and np.array_equal(first.weights, second.weights)
            and np.allclose(first.factor, -second.factor, rtol=1e-6, atol=0)
        ):
            raise self.refusal("of two values", SHRINK_REMEDY)
        self.check_threshold(-(first.term + second.term) / 2)
        return Shrunk(first, second)

    def negate(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Neg."""
        del a
        return self.affine(given[0], -np.ones(1), np.zeros(1))

    def magnitude(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Abs or Sign, as part of a soft threshold."""
        del a
        value = given[0]
        if not isinstance(value, Codes | Waiting):
            raise self.refusal("of a value of its own", SHRINK_REMEDY)
        kind = "sign" if self.node.op_type == "Sign" else "magnitude"
        return Part(kind, value, np.zeros(1))

    def signed_magnitude(self, given: list[Any]) -> Shrunk:
        """Return ``sign(v) · max(|v| - T, 0)``."""
        sign, magnitude = sorted(given, key=lambda part: part.kind, reverse=True)
        if (
            (sign.kind, magnitude.kind) != ("sign", "magnitude")
            or sign.clipped
            or not magnitude.clipped
            or sign.of is not magnitude.of
        ):
            raise self.refusal("of two values", SHRINK_REMEDY)
        return self.soft_threshold(sign.of, magnitude.threshold)

    def shrink(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Shrink, where it is a soft threshold."""
        threshold, bias = a.get("lambd", 0.5), a.get("bias", 0.0)
        if threshold != bias:
            raise self.refusal(
                f"with lambd {threshold:g} and bias {bias:g}",
                "use one number for both, a soft threshold",
            )
        return self.soft_threshold(given[0], np.array([threshold], np.float64))

    def soft_threshold(self, value: Value, threshold: Real) -> Shrunk:
        """Return a value with a soft threshold, one for all or one a channel."""
        self.check_threshold(threshold)
        above = self.affine(value, np.ones(1), -threshold)
        below = self.affine(value, -np.ones(1), -threshold)
        return Shrunk(above, below)

    def check_threshold(self, threshold: Real) -> None:
        """Check that thresholds leave one of the two ReLUs at 0."""
        if (threshold < 0).any():
            raise self.refusal(f"with a threshold of {threshold.min():g}", "use 0 or more")

    def relu(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Relu."""
        del a
        if isinstance(given[0], Part):
            return replace(given[0], clipped=True)
        value = self.waiting(given[0])
        low, high = value.limits
        return replace(value, limits=(max(low, 0.0), max(high, 0.0)))

    def clip(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Clip."""
        value = self.waiting(given[0])
        names = [i for i in self.node.input[1:]]
        ends = [a.get("min", -math.inf), a.get("max", math.inf)]
        for place, name in enumerate(names):
            if name:
                ends[place] = float(self.constant(self.values[name]).reshape(-1)[0])
        low, high = (min(max(end, ends[0]), ends[1]) for end in value.limits)
        return replace(value, limits=(low, high))

    def max_pool(self, given: list[Value], a: dict[str, Any]) -> Value:
        """MaxPool."""
        return self.pool(given, a, "max", tuple(a["kernel_shape"]))

    def average_pool(self, given: list[Value], a: dict[str, Any]) -> Value:
        """AveragePool."""
        return self.pool(given, a, "average", tuple(a["kernel_shape"]))

    def global_average_pool(self, given: list[Value], a: dict[str, Any]) -> Value:
        """GlobalAveragePool."""
        shape = self.tensors[self.codes(given[0]).tensor].shape
        return self.pool(given, a, "average", shape[:2])

    def pool(
        self, given: list[Value], a: dict[str, Any], kind: str, kernel: tuple[int, ...]
    ) -> Value:
        """Return the maximum of codes, or an average as a convolution that waits."""
        source = self.codes(given[0])
        tensor = self.tensors[source.tensor]
        stride = _pair(a.get("strides", [1, 1]))
        if len(kernel) != 2 or a.get("ceil_mode") or set(a.get("dilations", [1])) != {1}:
            raise self.refusal("with ceil_mode, dilations or one dimension", "use two, plain")
        padding = self.padding(a, tensor.shape, kernel, stride, (1, 1))
        size = _size(tensor.shape, kernel, stride, (1, 1), padding)
        shape = (*size, tensor.shape[2])
        if kind == "max":
            name = self.node.output[0]
            self.tensors[name] = replace(tensor, name=name, shape=shape)
            self.ops.append(
                Pool(
                    name=self.node.op_type, inputs=(source.tensor,), output=name, kind=kind,
                    kernel=(kernel[0], kernel[1]), stride=stride, padding=padding,
                    low=tensor.integer.low, high=tensor.integer.high,
                )
            )  # fmt: skip
            return Codes(name)
        if any(padding) and not a.get("count_include_pad"):
            raise self.refusal("with padding that does not count", "set count_include_pad")
        channels = tensor.shape[2]
        factor = np.full(channels, tensor.scale / (kernel[0] * kernel[1]))
        return Waiting(
            "conv", (source,), shape, factor, np.zeros(channels),
            weights=np.ones((channels, *kernel, 1), np.int64),
            options={"stride": stride, "padding": padding, "groups": channels},
        )  # fmt: skip

    def concat(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Concat of channels."""
        sources = tuple(self.codes(v) for v in given)
        shapes = [self.tensors[s.tensor].shape for s in sources]
        if a["axis"] not in (1, -3 if len(shapes[0]) == 3 else -1):
            raise self.refusal(f"along axis {a['axis']}", "concatenate channels, axis 1")
        shape = (*shapes[0][:-1], sum(s[-1] for s in shapes))
        return Waiting("concat", sources, shape, np.ones(1), np.zeros(1))

    def reshape(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Reshape, Flatten, Squeeze or Unsqueeze that makes a vector of a map."""
        if isinstance(given[0], Waiting):
            value = given[0]
            if value.shape[:2] != (1, 1) and len(value.shape) == 3:
                raise self.refusal("of a value that is not quantised", "quantise before it")
            self.check_vector(given, a, value.shape)
            return value
        if isinstance(given[0], Input):
            return self.reshaped_input(given, a, given[0])
        source = self.codes(given[0])
        tensor = self.tensors[source.tensor]
        self.check_vector(given, a, tensor.shape)
        if len(tensor.shape) == 1:
            return source
        name = self.node.output[0]
        self.tensors[name] = replace(tensor, name=name, shape=(math.prod(tensor.shape),))
        self.ops.append(Reshape(name=self.node.op_type, inputs=(source.tensor,), output=name))
        h, w, c = tensor.shape
        return Codes(name, (h, w, c))

    def reshaped_input(self, given: list[Value], a: dict[str, Any], value: Input) -> Input:
        """Return the input in another shape, before it is quantised."""
        if self.node.op_type == "Flatten":
            return Input((math.prod(value.shape),))
        if self.node.op_type != "Reshape":
            raise self.refusal("of the input", "use Reshape")
        del a
        wanted = [int(v) for v in self.constant(given[1])]
        if wanted[0] not in (1, -1, 0):
            raise self.refusal("of the batch", "leave the batch alone")
        rest = wanted[1:]
        if -1 in rest:
            rest[rest.index(-1)] = math.prod(value.shape) // -math.prod(rest)
        shape = _map_shape(tuple(rest))
        if len(shape) == 3 and shape[0] * shape[1] > 1 < shape[2]:
            raise self.refusal("of the input to several channels", "give the input as a map")
        return Input(tuple(rest))

    def check_vector(self, given: list[Value], a: dict[str, Any], shape: tuple[int, ...]) -> None:
        """Check that a reshape makes a vector."""
        count, kind = math.prod(shape), self.node.op_type
        fine = kind == "Flatten" and a.get("axis", 1) == 1
        if kind == "Reshape":
            wanted = [int(v) for v in self.constant(given[1])]
            fine = len(wanted) == 2 and wanted[1] in (-1, count) and wanted[0] in (-1, 0, 1)
        elif kind in ("Squeeze", "Unsqueeze"):
            fine = shape[:2] == (1, 1) or len(shape) == 1
        if not fine:
            raise self.refusal("to another map", "flatten to a vector")

    def pad(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Pad of height and width with zeros."""
        source = self.codes(given[0])
        pads = a.get("pads") or [int(v) for v in self.constant(given[1])]
        fill = self.constant(given[2]).reshape(-1)[0] if len(given) > 2 else 0.0
        if (
            a.get("mode", b"constant") != b"constant"
            or fill
            or len(pads) != 8
            or any(pads[i] for i in (0, 1, 4, 5))
        ):
            raise self.refusal("of other axes or values", "pad height and width with zeros")
        top, left, bottom, right = pads[2], pads[3], pads[6], pads[7]
        tensor = self.tensors[source.tensor]
        h, w, c = tensor.shape
        name = self.node.output[0]
        self.tensors[name] = replace(
            tensor, name=name, shape=(h + top + bottom, w + left + right, c)
        )
        self.ops.append(
            Pad(
                name="Pad", inputs=(source.tensor,), output=name,
                padding=(top, left, bottom, right),
            )
        )  # fmt: skip
        return Codes(name)

    def identity(self, given: list[Value], a: dict[str, Any]) -> Value:
        """Identity, Dropout, and a Softmax at the end, which changes no order."""
        del a
        if self.node.op_type == "Softmax" and self.place != len(self.source.node) - 1:
            raise self.refusal("before the end", "cut the model behind it")
        return given[0]


def _map_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return (channels, height, width) as (height, width, channels); a vector stays."""
    if len(shape) == 3:
        return shape[1], shape[2], shape[0]
    if len(shape) != 1:
        raise ModelError(f"input must be a map or a vector, not of shape {shape}")
    return shape


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def _size(
    shape: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int],
    dilation: tuple[int, int], padding: tuple[int, int, int, int],
) -> tuple[int, int]:  # fmt: skip
    """Return height and width of what a kernel makes."""
    found = [
        (n + padding[i] + padding[i + 2] - (k - 1) * d - 1) // s + 1
        for i, (n, k, s, d) in enumerate(zip(shape[:2], kernel, stride, dilation, strict=True))
    ]
    return found[0], found[1]


HANDLERS: dict[str, Any] = {
    "Conv": _Reader.conv,
    "Gemm": _Reader.gemm,
    "MatMul": _Reader.gemm,
    "BatchNormalization": _Reader.batch_norm,
    "Mul": _Reader.multiply,
    "Add": _Reader.add,
    "Sub": _Reader.subtract,
    "Neg": _Reader.negate,
    "Abs": _Reader.magnitude,
    "Sign": _Reader.magnitude,
    "Shrink": _Reader.shrink,
    "Relu": _Reader.relu,
    "Clip": _Reader.clip,
    "MaxPool": _Reader.max_pool,
    "AveragePool": _Reader.average_pool,
    "GlobalAveragePool": _Reader.global_average_pool,
    "Concat": _Reader.concat,
    "Reshape": _Reader.reshape,
    "Flatten": _Reader.reshape,
    "Squeeze": _Reader.reshape,
    "Unsqueeze": _Reader.reshape,
    "Pad": _Reader.pad,
    "Identity": _Reader.identity,
    "Dropout": _Reader.identity,
    "Softmax": _Reader.identity,
}
