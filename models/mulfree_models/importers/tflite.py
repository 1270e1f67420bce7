"""TFLite models, full-integer: int8, and int16 activations with int8 weights.

The factors between scales are formed as TFLite's ``Prepare`` functions form them, in double
precision from the file's single-precision scales. Where a model's own input or output is real or
unsigned, and its first or last operator converts it, the graph begins or ends inside.
"""

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from mulfree.formats import Int
from mulfree_models.graph import (
    SUPPORTED,
    Add,
    Concat,
    Conv2D,
    Dense,
    Graph,
    Mean,
    ModelError,
    Op,
    Pad,
    Pool,
    Rescale,
    Reshape,
    Softmax,
    Tensor,
)
from mulfree_models.quantise import quantise_multiplier

Array = NDArray[np.int64]

TYPES = {
    tflite.TensorType.INT8: np.int8,
    tflite.TensorType.INT16: np.int16,
    tflite.TensorType.INT32: np.int32,
    tflite.TensorType.INT64: np.int64,
}
TYPE_NAMES = {v: k.lower() for k, v in vars(tflite.TensorType).items() if isinstance(v, int)}
OPERATORS = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
ACTIVATIONS = {v: k for k, v in vars(tflite.ActivationFunctionType).items() if isinstance(v, int)}


def read(content: bytes, name: str) -> Graph:
    """Return the graph of a TFLite file.

    Raises
    ------
    ModelError
        The file is damaged, or an operator or a type is not supported.
    """
    if len(content) < 8 or content[4:8] != b"TFL3":
        raise ModelError(f"{name}.tflite must be a TFLite model, not a file without its mark TFL3")
    try:
        return _Reader(content, name).graph()
    except (
        struct.error,
        IndexError,
        TypeError,
        AttributeError,
        ValueError,
        OverflowError,
    ) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{name}.tflite must be a whole TFLite model, not a damaged one ({error})"
        ) from None


class _Reader:
    """One file: its tensors, and its operators turned into the graph's."""

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        self.model = tflite.Model.GetRootAs(content, 0)
        if self.model.SubgraphsLength() != 1:
            raise ModelError(
                f"model must have one subgraph, not {self.model.SubgraphsLength()}; "
                "convert it without control flow"
            )
        self.main = self.model.Subgraphs(0)
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Array] = {}
        self.place = 0
        self.kind = ""

    def graph(self) -> Graph:
        """Return the graph."""
        ends = []
        for what, count, of in (
            ("input", self.main.InputsLength(), self.main.Inputs),
            ("output", self.main.OutputsLength(), self.main.Outputs),
        ):
            if count != 1:
                raise ModelError(f"model must have one {what}, not {count}")
            ends.append(of(0))
        first, last = self.outer(ends)
        ends = [self.activation(index).name for index in ends]
        ops = []
        for place in range(first, last):
            self.place = place
            op = self.main.Operators(place)
            self.kind = self.kind_of(op)
            handler: Callable[[_Reader, Any], Op] | None = HANDLERS.get(self.kind)
            if handler is None:
                raise self.refusal(
                    "", f"replace it, or cut the model before it; supported are "
                    f"{', '.join(SUPPORTED)}",
                )  # fmt: skip
            ops.append(handler(self, op))
        return Graph(self.name, self.tensors, tuple(ops), ends[0], ends[1])

    def outer(self, ends: list[int]) -> tuple[int, int]:
        """Leave out the conversion of an input or output that is not int8 or int16.

        Changes `ends`, the numbers of the model's input and output, to the tensors inside; returns
        the first operator and the one behind the last.
        """
        first, last = 0, self.main.OperatorsLength()
        inner = tflite.TensorType.INT8, tflite.TensorType.INT16
        kinds = "QUANTIZE", "DEQUANTIZE"
        if last and self.main.Tensors(ends[0]).Type() not in inner:
            op = self.main.Operators(0)
            if self.kind_of(op) in kinds and op.Inputs(0) == ends[0]:
                ends[0], first = op.Outputs(0), 1
        if last and self.main.Tensors(ends[1]).Type() not in inner:
            op = self.main.Operators(last - 1)
            if self.kind_of(op) in kinds and op.Outputs(0) == ends[1]:
                ends[1], last = op.Inputs(0), last - 1
        return first, last

    def kind_of(self, op: Any) -> str:
        """Return an operator's name."""
        code = self.model.OperatorCodes(op.OpcodeIndex())
        if code.CustomCode():
            return code.CustomCode().decode(errors="replace")
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        return OPERATORS.get(number, f"number {number}")

    def refusal(self, what: str, remedy: str) -> ModelError:
        """Return the error for the operator at hand."""
        about = f" {what}" if what else ""
        return ModelError(
            f"operator {self.place} ({self.kind}) of {self.name}{about} is not supported: {remedy}"
        )

    def label(self, index: int) -> str:
        """Return a unique name of a tensor."""
        given = self.main.Tensors(index).Name()
        text = given.decode(errors="replace") if given else ""
        return f"{index}:{text.split(';')[0]}"

    def shape(self, index: int) -> tuple[int, ...]:
        """Return a tensor's shape, the batch included."""
        tensor = self.main.Tensors(index)
        return tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))

    def scales(self, index: int) -> NDArray[np.float64]:
        """Return a tensor's scales."""
        q = self.main.Tensors(index).Quantization()
        if q is None or not q.ScaleLength():
            raise self.refusal(
                f"with tensor {self.label(index)}, which has no scale,",
                "convert with full-integer quantisation",
            )
        return np.array([q.Scale(i) for i in range(q.ScaleLength())], np.float64)

    def activation(self, index: int) -> Tensor:
        """Return the tensor of an activation."""
        name = self.label(index)
        if name in self.tensors:
            return self.tensors[name]
        kind = self.main.Tensors(index).Type()
        if kind not in (tflite.TensorType.INT8, tflite.TensorType.INT16):
            raise self.refusal(
                f"with activations of type {TYPE_NAMES.get(kind, kind)} in {name}",
                "convert with full-integer quantisation (int8, or int16 with int8 weights), "
                "inputs and outputs included",
            )
        shape = self.shape(index)
        if len(shape) > 1 and shape[0] != 1:
            raise self.refusal(f"with a batch of {shape[0]}", "convert with a batch of 1")
        q = self.main.Tensors(index).Quantization()
        scale = float(self.scales(index)[0])
        zero_point = int(q.ZeroPoint(0)) if q.ZeroPointLength() else 0
        integer = Int(8 if kind == tflite.TensorType.INT8 else 16)
        tensor = Tensor(name, shape[1:] if len(shape) > 1 else shape, integer, scale, zero_point)
        self.tensors[name] = tensor
        return tensor

    def constant(self, index: int) -> Array:
        """Return the values of a constant tensor."""
        tensor = self.main.Tensors(index)
        kind = tensor.Type()
        if kind not in TYPES:
            raise self.refusal(
                f"with constants of type {TYPE_NAMES.get(kind, kind)} in {self.label(index)}",
                "convert with full-integer quantisation (int8 weights)",
            )
        buffer = self.model.Buffers(tensor.Buffer())
        raw = buffer.DataAsNumpy() if buffer.DataLength() else None
        if raw is None or isinstance(raw, int):
            raise self.refusal(
                f"with tensor {self.label(index)}, which is not constant,",
                "freeze the model's variables before conversion",
            )
        values = np.frombuffer(raw.tobytes(), TYPES[kind]).astype(np.int64)
        return values.reshape(self.shape(index))

    def options(self, op: Any, kind: Any) -> Any:
        """Return an operator's options, or None."""
        table = op.BuiltinOptions()
        if table is None:
            return None
        found = kind()
        found.Init(table.Bytes, table.Pos)
        return found

    def range(self, tensor: Tensor, activation: int) -> tuple[int, int]:
        """Return the output range that a fused activation leaves."""
        low, high = tensor.integer.low, tensor.integer.high
        name = ACTIVATIONS.get(activation, str(activation))

        def code(real: float) -> int:
            # Single precision and rounding away from zero, as TFLite's Quantize.
            steps = np.float32(real) / np.float32(tensor.scale)
            return tensor.zero_point + int(math.copysign(math.floor(abs(steps) + 0.5), steps))

        match name:
            case "NONE":
                return low, high
            case "RELU":
                return max(low, code(0)), high
            case "RELU6":
                return max(low, code(0)), min(high, code(6))
            case "RELU_N1_TO_1":
                return max(low, code(-1)), min(high, code(1))
        raise self.refusal(f"with activation {name}", "use none, relu or relu6")

    def ends(self, op: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Return the first input, the output, and what every operator has."""
        source, target = self.activation(op.Inputs(0)), self.activation(op.Outputs(0))
        common = {"name": self.kind, "inputs": (source.name,), "output": target.name}
        return source, target, common

    def channel_factors(
        self, op: Any, source: Tensor, target: Tensor, channels: int
    ) -> dict[str, Any]:
        """Return bias, multiplier, shift of each channel, and whether the sums are wide."""
        weight_scales = self.scales(op.Inputs(1))
        wide = False
        bias = np.zeros(channels, np.int64)
        if op.InputsLength() > 2 and op.Inputs(2) >= 0:
            bias = self.constant(op.Inputs(2)).reshape(-1)
            wide = self.main.Tensors(op.Inputs(2)).Type() == tflite.TensorType.INT64
        elif source.integer.bits == 16:
            wide = True
        q = self.main.Tensors(op.Inputs(1)).Quantization()
        if any(q.ZeroPoint(i) for i in range(q.ZeroPointLength())):
            raise self.refusal("with weights whose zero point is not 0", "use symmetric weights")
        products = source.scale * weight_scales
        if self.kind == "FULLY_CONNECTED" and len(products) == 1:
            products = products.astype(np.float32).astype(np.float64)
        pairs = [quantise_multiplier(float(p) / target.scale) for p in products]
        if wide:
            pairs = [(_reduced(m), s) for m, s in pairs]
        multiplier, shift = (
            np.broadcast_to(np.array(v, np.int64), channels).copy()
            for v in zip(*pairs, strict=True)
        )
        return {"bias": bias, "multiplier": multiplier, "shift": shift, "wide": wide}

    def convolution(self, op: Any, depthwise: bool) -> Op:
        """Read CONV_2D or DEPTHWISE_CONV_2D."""
        source, target, common = self.ends(op)
        o = self.options(op, tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions)
        weights = self.constant(op.Inputs(1))
        if depthwise:
            weights = weights.transpose(3, 1, 2, 0)
            groups = source.shape[2]
        else:
            groups = source.shape[2] // weights.shape[3]
        stride, dilation = (o.StrideH(), o.StrideW()), (o.DilationHFactor(), o.DilationWFactor())
        low, high = self.range(target, o.FusedActivationFunction())
        return Conv2D(
            **common,
            weights=weights,
            **self.channel_factors(op, source, target, len(weights)),
            stride=stride,
            dilation=dilation,
            padding=_padding(o.Padding(), source.shape, weights.shape[1:3], stride, dilation),
            groups=groups,
            low=low,
            high=high,
        )

    def conv2d(self, op: Any) -> Op:
        """Read CONV_2D."""
        return self.convolution(op, depthwise=False)

    def depthwise(self, op: Any) -> Op:
        """Read DEPTHWISE_CONV_2D."""
        return self.convolution(op, depthwise=True)

    def fully_connected(self, op: Any) -> Op:
        """Read FULLY_CONNECTED."""
        source, target, common = self.ends(op)
        o = self.options(op, tflite.FullyConnectedOptions)
        if o.WeightsFormat():
            raise self.refusal("with shuffled weights", "convert for the default format")
        weights = self.constant(op.Inputs(1))
        if math.prod(source.shape) != weights.shape[1]:
            raise self.refusal(
                f"on {source.shape}, which is more than one vector of {weights.shape[1]},",
                "use a 1 × 1 convolution",
            )
        low, high = self.range(target, o.FusedActivationFunction())
        factors = self.channel_factors(op, source, target, len(weights))
        # The kernels' matrix product scales for itself, and rounds once, other than their rest.
        return Dense(**common, weights=weights, **factors, rounding="single", low=low, high=high)

    def add(self, op: Any) -> Op:
        """Read ADD."""
        for place in range(2):
            if not self.is_activation(op.Inputs(place)):
                raise self.refusal("of a constant", "fold it into the bias of the layer before")
        source, target, common = self.ends(op)
        other = self.activation(op.Inputs(1))
        if source.shape != other.shape:
            raise self.refusal(
                f"of shapes {source.shape} and {other.shape}", "add tensors of one shape"
            )
        o = self.options(op, tflite.AddOptions)
        left_shift = 20 if source.integer.bits == 8 else 15
        twice = 2 * max(source.scale, other.scale)
        sum_scale = twice / ((1 << left_shift) * target.scale)
        factors = [quantise_multiplier(s) for s in (source.scale / twice, other.scale / twice)]
        low, high = self.range(target, o.FusedActivationFunction() if o else 0)
        common["inputs"] = (source.name, other.name)
        return Add(
            **common,
            factors=(factors[0], factors[1], quantise_multiplier(sum_scale)),
            left_shift=left_shift,
            low=low,
            high=high,
        )

    def is_activation(self, index: int) -> bool:
        """Tell whether a tensor is computed, not constant."""
        buffer = self.model.Buffers(self.main.Tensors(index).Buffer())
        return not buffer.DataLength()

    def pool(self, op: Any, kind: str) -> Op:
        """Read AVERAGE_POOL_2D or MAX_POOL_2D."""
        source, target, common = self.ends(op)
        if (source.scale, source.zero_point) != (target.scale, target.zero_point):
            raise self.refusal("between two scales", "convert with the scales of a pool tied")
        o = self.options(op, tflite.Pool2DOptions)
        kernel, stride = (o.FilterHeight(), o.FilterWidth()), (o.StrideH(), o.StrideW())
        low, high = self.range(target, o.FusedActivationFunction())
        padding = _padding(o.Padding(), source.shape, kernel, stride, (1, 1))
        return Pool(
            **common, kind=kind, kernel=kernel, stride=stride, padding=padding, low=low, high=high
        )

    def average_pool(self, op: Any) -> Op:
        """Read AVERAGE_POOL_2D."""
        return self.pool(op, "average")

    def max_pool(self, op: Any) -> Op:
        """Read MAX_POOL_2D."""
        return self.pool(op, "max")

    def mean(self, op: Any) -> Op:
        """Read MEAN over height and width."""
        source, _target, common = self.ends(op)
        axes = sorted(int(a) % 4 for a in self.constant(op.Inputs(1)).reshape(-1))
        if len(source.shape) != 3 or axes != [1, 2]:
            raise self.refusal(f"over axes {axes}", "take the mean over height and width")
        # The number of pixels goes into the factor, as in QuantizedMeanOrSum.
        multiplier, shift = quantise_multiplier(source.scale / self.tensors[common["output"]].scale)
        count = source.shape[0] * source.shape[1]
        places = min(count.bit_length() - 1, 32, 31 + shift)
        return Mean(**common, multiplier=(multiplier << places) // count, shift=shift - places)

    def concatenation(self, op: Any) -> Op:
        """Read CONCATENATION along the channels."""
        sources = [self.activation(op.Inputs(i)) for i in range(op.InputsLength())]
        _, target, common = self.ends(op)
        o = self.options(op, tflite.ConcatenationOptions)
        rank = len(target.shape) + 1
        if o.Axis() % rank != rank - 1:
            raise self.refusal(f"along axis {o.Axis()}", "concatenate channels, the last axis")
        if o.FusedActivationFunction():
            raise self.refusal("with an activation", "put it behind the layers before")
        if any((s.scale, s.zero_point) != (target.scale, target.zero_point) for s in sources):
            raise self.refusal("of several scales", "convert with the scales tied")
        common["inputs"] = tuple(s.name for s in sources)
        return Concat(**common)

    def reshape(self, op: Any) -> Op:
        """Read RESHAPE, SQUEEZE or EXPAND_DIMS."""
        return Reshape(**self.ends(op)[2])

    def pad(self, op: Any) -> Op:
        """Read PAD or PADV2 of height and width."""
        source, target, common = self.ends(op)
        amounts = self.constant(op.Inputs(1))
        if self.kind == "PADV2" and int(self.constant(op.Inputs(2)).reshape(-1)[0]) != (
            source.zero_point
        ):
            raise self.refusal("with a value other than zero", "pad with zeros")
        if (source.scale, source.zero_point) != (target.scale, target.zero_point):
            raise self.refusal("between two scales", "convert with the scales tied")
        if len(amounts) != 4 or amounts[[0, 3]].any():
            raise self.refusal("of other axes", "pad height and width")
        (top, bottom), (left, right) = amounts[1:3].tolist()
        return Pad(**common, padding=(top, left, bottom, right))

    def rescale(self, op: Any) -> Op:
        """Read RELU, RELU6 or QUANTIZE."""
        source, target, common = self.ends(op)
        activation = getattr(tflite.ActivationFunctionType, self.kind, 0)
        if source.integer != target.integer:
            raise self.refusal("between integer widths", "use one width for the whole model")
        multiplier, shift = quantise_multiplier(source.scale / target.scale)
        low, high = self.range(target, activation)
        return Rescale(**common, multiplier=multiplier, shift=shift, low=low, high=high)

    def softmax(self, op: Any) -> Op:
        """Read SOFTMAX."""
        source, target, common = self.ends(op)
        if source.integer.bits != 8 or target.integer.bits != 8:
            raise self.refusal("of 16 bits", "cut it off; the largest output stays the largest")
        return Softmax(**common, beta=float(self.options(op, tflite.SoftmaxOptions).Beta()))


def _reduced(multiplier: int) -> int:
    """Return a multiplier as TFLite's 64-bit sums use it, 15 bits, in its 31-bit place."""
    return min((multiplier + (1 << 15)) >> 16, 0x7FFF) << 16


def _padding(
    scheme: int, source: tuple[int, ...], kernel: tuple[int, ...],
    stride: tuple[int, int], dilation: tuple[int, int],
) -> tuple[int, int, int, int]:  # fmt: skip
    """Return (top, left, bottom, right) of TFLite's SAME or VALID."""
    if scheme == tflite.Padding.VALID or min(stride) < 1:
        return 0, 0, 0, 0
    before, after = [], []
    for size, k, s, d in zip(source, kernel, stride, dilation, strict=False):
        total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        before.append(total // 2)
        after.append(total - total // 2)
    return before[0], before[1], after[0], after[1]


HANDLERS: dict[str, Callable[[_Reader, Any], Op]] = {
    "CONV_2D": _Reader.conv2d,
    "DEPTHWISE_CONV_2D": _Reader.depthwise,
    "FULLY_CONNECTED": _Reader.fully_connected,
    "ADD": _Reader.add,
    "AVERAGE_POOL_2D": _Reader.average_pool,
    "MAX_POOL_2D": _Reader.max_pool,
    "MEAN": _Reader.mean,
    "CONCATENATION": _Reader.concatenation,
    "RESHAPE": _Reader.reshape,
    "SQUEEZE": _Reader.reshape,
    "EXPAND_DIMS": _Reader.reshape,
    "PAD": _Reader.pad,
    "PADV2": _Reader.pad,
    "RELU": _Reader.rescale,
    "RELU6": _Reader.rescale,
    "QUANTIZE": _Reader.rescale,
    "SOFTMAX": _Reader.softmax,
}
