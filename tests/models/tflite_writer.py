"""Writes small TFLite models: tensors and operators given as plain data."""

from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

TYPES = {
    "int8": tflite.TensorType.INT8,
    "int16": tflite.TensorType.INT16,
    "int32": tflite.TensorType.INT32,
    "int64": tflite.TensorType.INT64,
    "float32": tflite.TensorType.FLOAT32,
}


@dataclass
class Model:
    """A model being put together; `tensor` and `op` return and take tensor numbers."""

    tensors: list[dict[str, Any]] = field(default_factory=list)
    ops: list[dict[str, Any]] = field(default_factory=list)

    def tensor(self, shape, dtype="int8", scale=(), zero_point=0, axis=0, values=None) -> int:
        scales = np.atleast_1d(np.asarray(scale, np.float64)).tolist()
        self.tensors.append(
            {
                "shape": list(shape), "dtype": dtype, "scale": scales, "zero_point": zero_point,
                "axis": axis, "values": values,
            }
        )  # fmt: skip
        return len(self.tensors) - 1

    def op(self, kind: str, inputs, outputs, version=1, **options) -> None:
        self.ops.append(
            {"kind": kind, "inputs": inputs, "outputs": outputs, "version": version,
             "options": options}
        )  # fmt: skip

    def to_bytes(self, inputs, outputs) -> bytes:
        b = flatbuffers.Builder(1024)
        buffers = [_buffer(b, None)]
        tensors = []
        for place, t in enumerate(self.tensors):
            number = 0
            if t["values"] is not None:
                number = len(buffers)
                buffers.append(_buffer(b, np.asarray(t["values"], t["dtype"]).tobytes()))
            tensors.append(_tensor(b, t, number, f"t{place}"))
        codes = [_code(b, op) for op in self.ops]
        operators = [_operator(b, op, place) for place, op in enumerate(self.ops)]
        tensor_vector = _offsets(b, tflite.SubGraphStartTensorsVector, tensors)
        input_vector, output_vector = (b.CreateNumpyVector(np.array(v, np.int32))
                                       for v in (inputs, outputs))  # fmt: skip
        operator_vector = _offsets(b, tflite.SubGraphStartOperatorsVector, operators)
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensor_vector)
        tflite.SubGraphAddInputs(b, input_vector)
        tflite.SubGraphAddOutputs(b, output_vector)
        tflite.SubGraphAddOperators(b, operator_vector)
        graph = tflite.SubGraphEnd(b)
        code_vector = _offsets(b, tflite.ModelStartOperatorCodesVector, codes)
        graph_vector = _offsets(b, tflite.ModelStartSubgraphsVector, [graph])
        buffer_vector = _offsets(b, tflite.ModelStartBuffersVector, buffers)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, code_vector)
        tflite.ModelAddSubgraphs(b, graph_vector)
        tflite.ModelAddBuffers(b, buffer_vector)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())


def _offsets(b, start, offsets) -> int:
    start(b, len(offsets))
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _buffer(b, content) -> int:
    data = None if content is None else b.CreateNumpyVector(np.frombuffer(content, np.uint8))
    tflite.BufferStart(b)
    if data is not None:
        tflite.BufferAddData(b, data)
    return tflite.BufferEnd(b)


def _tensor(b, t, buffer, name) -> int:
    text = b.CreateString(name)
    shape = b.CreateNumpyVector(np.array(t["shape"], np.int32))
    quantization = None
    if t["scale"]:
        scale = b.CreateNumpyVector(np.array(t["scale"], np.float32))
        zeros = np.full(len(t["scale"]), t["zero_point"], np.int64)
        zero_point = b.CreateNumpyVector(zeros)
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scale)
        tflite.QuantizationParametersAddZeroPoint(b, zero_point)
        tflite.QuantizationParametersAddQuantizedDimension(b, t["axis"])
        quantization = tflite.QuantizationParametersEnd(b)
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, shape)
    tflite.TensorAddType(b, TYPES[t["dtype"]])
    tflite.TensorAddBuffer(b, buffer)
    tflite.TensorAddName(b, text)
    if quantization is not None:
        tflite.TensorAddQuantization(b, quantization)
    return tflite.TensorEnd(b)


def _code(b, op) -> int:
    number = getattr(tflite.BuiltinOperator, op["kind"])
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
    tflite.OperatorCodeAddBuiltinCode(b, number)
    tflite.OperatorCodeAddVersion(b, op["version"])
    return tflite.OperatorCodeEnd(b)


#: Operator -> its table of options.
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "SOFTMAX": "SoftmaxOptions",
    "RESHAPE": "ReshapeOptions",
    "MEAN": "ReducerOptions",
    "PAD": "PadOptions",
}


def _operator(b, op, place) -> int:
    inputs, outputs = (
        b.CreateNumpyVector(np.array(op[k], np.int32)) for k in ("inputs", "outputs")
    )
    kind = OPTIONS.get(op["kind"])
    options = None
    if kind:
        getattr(tflite, f"{kind}Start")(b)
        for name, value in op["options"].items():
            getattr(tflite, f"{kind}Add{name}")(b, value)
        options = getattr(tflite, f"{kind}End")(b)
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, place)
    tflite.OperatorAddInputs(b, inputs)
    tflite.OperatorAddOutputs(b, outputs)
    if kind and options is not None:
        tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, kind))
        tflite.OperatorAddBuiltinOptions(b, options)
    return tflite.OperatorEnd(b)
