"""Small ONNX models, with QuantizeLinear or as QONNX; not available without the extra `onnx`."""

import warnings

import numpy as np
import pytest

from mulfree.formats.planes import hadamard

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")

QONNX = "qonnx.custom_op.general"


class Net:
    """An ONNX model with one running value; `quant` quantises in one way or the other."""

    def __init__(self, rng, shape, qonnx=False, bits=8):
        self.rng, self.qonnx, self.bits, self.shape = rng, qonnx, bits, (1, *shape)
        self.nodes, self.constants, self.at = [], [], "x"
        self.input_shape = self.shape

    def constant(self, values) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind, inputs, domain="", **attributes) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(
            onnx.helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes)
        )
        return name

    def quant(self, scale, zero=0, dtype=np.int8, value=None, signed=1, bits=None) -> str:
        """Quantise the running value."""
        scale = np.float32(scale)
        if self.qonnx:
            self.at = self.node(
                "Quant", [self.at, self.constant(scale), self.constant(np.float32(zero)),
                          self.constant(np.float32(bits or self.bits))],
                domain=QONNX, signed=signed, narrow=0, rounding_mode="ROUND",
            )  # fmt: skip
            return self.at
        parameters = [self.constant(scale), self.constant(dtype(zero))]
        codes = self.node("QuantizeLinear", [self.at, *parameters])
        self.at = self.node("DequantizeLinear", [codes, *parameters])
        return self.at

    def weights(self, shape, axis=0) -> str:
        """Weights with a scale a channel."""
        count = shape[axis]
        high = 2 ** (self.bits - 1) - 1
        codes = self.rng.integers(-high, high + 1, shape)
        fan = np.prod(shape) / count
        scale = (self.rng.uniform(0.5, 1.5, count) / high / np.sqrt(fan)).astype(np.float32)
        if self.qonnx:
            along = [1] * len(shape)
            along[axis] = count
            real = codes * scale.reshape(along)
            return self.node(
                "Quant", [self.constant(real.astype(np.float32)),
                          self.constant(scale.reshape(along)), self.constant(np.float32(0)),
                          self.constant(np.float32(self.bits))],
                domain=QONNX, signed=1, narrow=1, rounding_mode="ROUND",
            )  # fmt: skip
        return self.node(
            "DequantizeLinear",
            [self.constant(codes.astype(np.int8)), self.constant(scale),
             self.constant(np.zeros(count, np.int8))],
            axis=axis,
        )  # fmt: skip

    def conv(self, channels, k=(3, 3), bias=True, **attributes):
        inner = self.shape[1] // attributes.get("group", 1)
        given = [self.at, self.weights((channels, inner, *k))]
        if bias:
            given.append(self.constant(self.rng.normal(0, 0.3, channels).astype(np.float32)))
        self.at = self.node("Conv", given, kernel_shape=list(k), **attributes)
        self.shape = (1, channels, *self.shape[2:])

    def norm(self, channels):
        real = [self.rng.uniform(0.5, 1.5, channels) * self.rng.choice([1, 1, -1], channels),
                self.rng.normal(0, 0.2, channels), self.rng.normal(0, 0.2, channels),
                self.rng.uniform(0.5, 1.5, channels)]  # fmt: skip
        given = [self.constant(r.astype(np.float32)) for r in real]
        self.at = self.node("BatchNormalization", [self.at, *given])

    def gemm(self, inputs, outputs):
        bias = self.constant(self.rng.normal(0, 0.2, outputs).astype(np.float32))
        self.at = self.node("Gemm", [self.at, self.weights((outputs, inputs)), bias], transB=1)

    def soft_threshold(self, thresholds, way):
        """Soft-threshold the running value, in one of the ways that files have it."""
        real = np.asarray(thresholds, np.float32)
        along = (-1, *(1 for _ in self.shape[2:]))
        limit = self.constant(real.reshape(along) if real.ndim else real)
        v = self.at
        if way == "shrink":
            self.at = self.node("Shrink", [v], lambd=float(real), bias=float(real))
        elif way == "sign":
            over = self.node("Relu", [self.node("Sub", [self.node("Abs", [v]), limit])])
            self.at = self.node("Mul", [self.node("Sign", [v]), over])
        else:
            above = self.node("Relu", [self.node("Sub", [v, limit])])
            below = self.node("Relu", [self.node("Sub", [self.node("Neg", [v]), limit])])
            self.at = self.node("Sub", [above, below])

    def transform(self, rows, columns, scale=1.0, points=0, quantised=True):
        """A point convolution with rows and columns of a Walsh-Hadamard matrix, in blocks."""
        points = points or 1 << (max(rows, columns) - 1).bit_length()
        matrix = np.tile(hadamard(points), (-(-rows // points), 1))[:rows, : min(points, columns)]
        weights = self.constant((scale * matrix[..., None, None]).astype(np.float32))
        if quantised and self.qonnx:
            given = [self.constant(np.float32(v)) for v in (scale, 0, 2)]
            weights = self.node(
                "Quant", [weights, *given], domain=QONNX, signed=1, narrow=1, rounding_mode="ROUND"
            )
        elif quantised:
            codes = self.constant(matrix[..., None, None].astype(np.int8))
            given = [self.constant(np.float32(scale)), self.constant(np.int8(0))]
            weights = self.node("DequantizeLinear", [codes, *given])
        groups = -(-columns // points)
        self.at = self.node("Conv", [self.at, weights], kernel_shape=[1, 1], group=groups)
        self.shape = (1, rows, *self.shape[2:])

    def model(self):
        last = onnx.helper.make_tensor_value_info(self.at, onnx.TensorProto.FLOAT, None)
        first = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.input_shape)
        graph = onnx.helper.make_graph(self.nodes, "g", [first], [last], self.constants)
        domains = [onnx.helper.make_opsetid("", 13)]
        if self.qonnx:
            domains.append(onnx.helper.make_opsetid(QONNX, 1))
        return onnx.helper.make_model(graph, opset_imports=domains, ir_version=8)
