import warnings

import numpy as np
import pytest

from mulfree.engine.layers import EngineShape
from mulfree_models import reference
from mulfree_models.graph import ModelError
from mulfree_models.importers import onnx as importer
from mulfree_models.lowering import lower
from mulfree_sim.golden import network as golden
from tests.models.onnx_writer import Net

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ort = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    onnx_exec = pytest.importorskip(
        "qonnx.core.onnx_exec", reason="the extra `onnx` is not installed"
    )
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

SEED = 9


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


def frequency(rng, way="sign", points=0, channels=12, zero=0, gains=False, early=False, **how):
    """A frequency layer with its input added at the end, between two convolutions."""
    net = Net(rng, (3, 6, 5), **how)
    fine = 2.0 ** (8 - net.bits)
    net.quant(0.03 * fine)
    net.conv(channels, pads=[1, 1, 1, 1])
    net.quant(0.017 * fine)
    kept = net.at
    coefficients = -(-channels // points) * points if points else 16
    net.transform(coefficients, channels, points=points)
    if gains:
        real = rng.uniform(-1.5, 1.5, (coefficients, 1, 1))
        net.at = net.node("Mul", [net.at, net.constant(real.astype(np.float32))])
    if early:
        net.quant(0.053 * fine)
    limits = 0.7 if way == "shrink" else rng.uniform(0, 1.5, coefficients) * (rng.random(
        coefficients) < 0.8)  # fmt: skip
    net.soft_threshold(limits, way)
    net.quant(0.0437 * fine, zero)
    net.transform(channels, coefficients, 0.0811, points, quantised=early)
    net.quant(0.013 * fine)
    net.at = net.node("Add", [net.at, kept])
    net.quant(0.021 * fine)
    net.conv(5, k=(1, 1))
    net.quant(0.0197 * fine)
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
        (frequency, {"way": "shrink"}),
        (frequency, {"way": "sign", "zero": 5}),
        (frequency, {"way": "relu", "points": 4, "gains": True}),
        (frequency, {"way": "sign", "early": True, "channels": 16}),
        (frequency, {"way": "relu", "early": True}),
        (frequency, {"way": "sign", "qonnx": True}),
        (frequency, {"way": "shrink", "qonnx": True, "bits": 4}),
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
    real = real.transpose(0, 3, 1, 2).astype(np.float32)
    wanted = np.moveaxis(peer(model, net.qonnx, real), 1, -1)
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
