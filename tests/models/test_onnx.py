import warnings

import numpy as np
import pytest

from mulfree.engine.layers import EngineShape
from mulfree_models import reference
from mulfree_models.graph import ModelError
from mulfree_models.importers import onnx as importer
from mulfree_models.lowering import lower
from mulfree_sim.golden import network as golden

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    ort = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    onnx_exec = pytest.importorskip(
        "qonnx.core.onnx_exec", reason="the extra `onnx` is not installed"
    )
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

SEED = 9
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

    def model(self):
        last = onnx.helper.make_tensor_value_info(self.at, onnx.TensorProto.FLOAT, None)
        first = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.input_shape)
        graph = onnx.helper.make_graph(self.nodes, "g", [first], [last], self.constants)
        domains = [onnx.helper.make_opsetid("", 13)]
        if self.qonnx:
            domains.append(onnx.helper.make_opsetid(QONNX, 1))
        return onnx.helper.make_model(graph, opset_imports=domains, ir_version=8)


def convolutions(rng, **how):
    net = Net(rng, (3, 9, 8), **how)
    net.quant(0.05 if net.bits == 8 else 1.07 * 2 ** (4 - net.bits), 0)
    net.conv(8, pads=[1, 1, 1, 1])
    net.norm(8)
    net.at = net.node("Relu", [net.at])
    net.quant(0.02 if net.bits == 8 else 0.93 * 2 ** (3 - net.bits), 0, np.uint8, signed=0)
    kept = net.at
    net.conv(8, pads=[1, 1, 1, 1], group=8)
    net.quant(0.0317 if net.bits == 8 else 1.07 * 2 ** (3 - net.bits), 3 if net.bits == 8 else 0)
    net.at = net.node("Add", [net.at, kept])
    net.at = net.node("Relu", [net.at])
    net.quant(0.0413 if net.bits == 8 else 1.01 * 2 ** (4 - net.bits), 0, np.uint8, signed=0)
    net.at = net.node("MaxPool", [net.at], kernel_shape=[2, 2], strides=[2, 2])
    net.at = net.node("Flatten", [net.at])
    net.gemm(8 * 4 * 4, 10)
    net.quant(0.05 if net.bits == 8 else 1.07 * 2 ** (3 - net.bits), 0)
    return net


def pooled(rng, **how):
    net = Net(rng, (4, 8, 8), **how)
    net.quant(0.05, 0)
    net.conv(12, k=(1, 1), strides=[2, 2], bias=False)
    net.quant(0.0197, 0)
    other = net.at
    net.conv(6, dilations=[2, 2], pads=[2, 2, 2, 2])
    net.quant(0.0313, 0)
    net.at = net.node("Concat", [other, net.at], axis=1)
    net.quant(0.0313, 0)
    net.at = net.node("GlobalAveragePool", [net.at])
    net.quant(0.01, 0)
    net.at = net.node("Flatten", [net.at])
    net.gemm(18, 4)
    net.quant(0.0197, 0)
    return net


def peer(model, qonnx, x):
    if qonnx:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = ModelWrapper(model).transform(InferShapes())
            rows = [
                onnx_exec.execute_onnx(wrapped, {"x": row[None]})[model.graph.output[0].name]
                for row in x
            ]
        return np.concatenate(rows)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options)
    return np.concatenate([session.run(None, {"x": row[None]})[0] for row in x])


@pytest.mark.parametrize(
    ("build", "how"),
    [
        (convolutions, {}),
        (convolutions, {"qonnx": True}),
        (convolutions, {"qonnx": True, "bits": 4}),
        (convolutions, {"qonnx": True, "bits": 3}),
        (pooled, {}),
        (pooled, {"qonnx": True}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_codes_are_the_peers(build, how):
    rng = np.random.default_rng(SEED)
    net = build(rng, **how)
    model = net.model()
    graph = importer.read(model.SerializeToString(), "model")
    source, target = graph.tensors[graph.input], graph.tensors[graph.output]
    codes = rng.integers(source.integer.low, source.integer.high + 1, (5, *source.shape))
    real = (codes - source.zero_point) * source.scale
    wanted = peer(model, net.qonnx, real.transpose(0, 3, 1, 2).astype(np.float32))
    found = reference.run(graph, codes)
    off = np.abs(found - np.rint(wanted / target.scale + target.zero_point))
    assert len(np.unique(found)) > 3
    # A real bias has become an integer, which may move a sum over a rounding's edge.
    assert off.max() <= 1
    assert (off > 0).mean() <= 0.04
    shape = EngineShape(left_shift=4, channels=1024, rounding="single")
    assert (golden.results(lower(graph, shape), codes) == found).all()


def refused(net):
    with pytest.raises(ModelError) as error:
        importer.read(net.model().SerializeToString(), "model")
    return str(error.value)


def test_refusals_name_operator_and_place():
    rng = np.random.default_rng(SEED)
    net = Net(rng, (3, 8, 8))
    net.quant(0.1)
    net.at = net.node("Sigmoid", [net.at])
    net.quant(0.1)
    assert refused(net).startswith("operator 2 (Sigmoid 'v2') of model is not supported: replace")
    net = Net(rng, (3, 8, 8))
    net.conv(4)
    assert "is not quantised" in refused(net)
    with pytest.raises(ModelError, match=r"^model.onnx must be "):
        importer.read(b"not a model", "model")
    content = convolutions(rng).model().SerializeToString()
    for size in (10, 100, len(content) // 2):
        with pytest.raises(ModelError):
            importer.read(content[:size], "model")
