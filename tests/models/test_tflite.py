import warnings

import numpy as np
import pytest

from mulfree_models import reference
from mulfree_models.graph import ModelError
from mulfree_models.importers import tflite
from tests.models.layers import CASES, WIDE_CASES, chain, conv, inputs

SEED = 5


def peer(content: bytes, codes: np.ndarray, kind: type = np.int64) -> np.ndarray:
    """TFLite's own reference kernels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        run = Interpreter(
            model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        )
    run.allocate_tensors()
    source, target = run.get_input_details()[0], run.get_output_details()[0]
    found = []
    for row in codes:
        run.set_tensor(source["index"], row[None].astype(source["dtype"]))
        run.invoke()
        found.append(run.get_tensor(target["index"])[0])
    return np.array(found, kind)


def peer_real(content: bytes, real: np.ndarray) -> np.ndarray:
    """The same for a model with real inputs and outputs."""
    return peer(content, real, np.float64)


def check(content: bytes, rng: np.random.Generator, images: int = 6) -> None:
    graph = tflite.read(content, "model")
    codes = inputs(rng, graph.tensors[graph.input], images)
    found = reference.run(graph, codes)
    assert len(np.unique(found)) > 3, "a layer whose outputs are all the same tests nothing"
    assert (found == peer(content, codes)).all()


@pytest.mark.parametrize("case", CASES)
def test_reference_is_tflites(case):
    rng = np.random.default_rng(SEED)
    check(CASES[case](rng).to_bytes(), rng)


@pytest.mark.parametrize("case", WIDE_CASES)
def test_reference_with_16_bit_activations_is_tflites(case):
    rng = np.random.default_rng(SEED)
    check(chain(rng, *WIDE_CASES[case], dtype="int16").to_bytes(), rng)


def test_conversions_at_the_ends_are_left_out():
    rng = np.random.default_rng(SEED)
    net = conv(rng)
    model = net.model
    real = model.tensor((1, 9, 8, 5), "float32")
    out = model.tensor(net.shape, "float32")
    model.op("QUANTIZE", [real], [net.input])
    model.ops.insert(0, model.ops.pop())
    model.op("DEQUANTIZE", [net.at], [out], version=2)
    graph = tflite.read(model.to_bytes([real], [out]), "model")
    source, target = graph.tensors[graph.input], graph.tensors[graph.output]
    codes = inputs(rng, source, 3)
    found = reference.run(graph, codes)
    wanted = peer_real(model.to_bytes([real], [out]), (codes - source.zero_point) * source.scale)
    assert np.allclose((found - target.zero_point) * target.scale, wanted, rtol=1e-5)


def refusal(net) -> str:
    with pytest.raises(ModelError) as error:
        tflite.read(net.to_bytes(), "net")
    return str(error.value)


def test_refusals_name_operator_place_and_remedy():
    rng = np.random.default_rng(SEED)
    net = conv(rng)
    net.unary("LOGISTIC")
    assert refusal(net).startswith(
        "operator 1 (LOGISTIC) of net is not supported: replace it, or cut the model before it; "
        "supported are conv2d, depthwise conv2d, "
    )
    net = conv(rng, activation=4)
    assert refusal(net) == (
        "operator 0 (CONV_2D) of net with activation TANH is not supported: use none, relu or relu6"
    )
    net = conv(rng)
    net.model.tensors[1]["zero_point"] = 3
    assert "with weights whose zero point is not 0 is not supported" in refusal(net)
    net = conv(rng)
    net.model.tensors[net.at]["shape"] = [1, 9, 9, 18]
    assert "must make shape (9, 8, 18) of [(9, 8, 5)], not (9, 9, 18)" in refusal(net)
    with pytest.raises(ModelError, match=r"^net.tflite must be a TFLite model, not a file without"):
        tflite.read(b"anything at all", "net")
