"""Frequency layers of ONNX files: transform, soft threshold, transform back, to the last bit."""

import json

import numpy as np
import pytest

from mulfree.engine.layers import EngineShape
from mulfree.engine.network import NetworkSpec
from mulfree.units.freqlayer import FreqLayerSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_models import reference
from mulfree_models.graph import ModelError
from mulfree_models.importers import onnx as importer
from mulfree_models.lowering import lower
from mulfree_models.recode import power_of_two
from mulfree_sim import runner
from mulfree_sim.golden import freqlayer
from mulfree_sim.golden import network as golden
from mulfree_sim.golden.wht import fast, hadamard
from tests.models.onnx_writer import Net

SEED = 21
WAYS = ("sign", "relu")


def layer(
    bits=8,
    thresholds=0.0,
    way="sign",
    channels=16,
    kept=1.0,
    back=1 / 16,
    zero=0,
    size=(4, 5),
    **how,
):
    """A frequency layer of 16 coefficients, all scales powers of two, and its input's Net."""
    net = Net(np.random.default_rng(SEED), (channels, *size), qonnx=True, bits=bits)
    net.quant(1.0)
    net.transform(16, channels)
    net.soft_threshold(thresholds, way)
    net.quant(kept, zero, bits=8)
    net.transform(channels, 16, back, **how)
    net.quant(1.0, bits=8)
    return net


def graph_of(net):
    return importer.read(net.model().SerializeToString(), "model")


def codes_of(graph, images=6):
    tensor = graph.tensors[graph.input]
    rng = np.random.default_rng(SEED)
    codes = rng.integers(tensor.integer.low, tensor.integer.high + 1, (images, *tensor.shape))
    codes[0], codes[1] = tensor.integer.low, tensor.integer.high
    return codes


def rounded(values, bits):
    """To nearest, ties up."""
    return (values + (1 << bits >> 1)) >> bits


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("channels", [16, 11])
def test_layer_is_the_frequency_unit(way, channels):
    """Where 8 bits hold the whole spectrum, the engine gives what the unit `freqlayer` does."""
    limits = np.random.default_rng(SEED).integers(0, 30, 16)
    spec = FreqLayerSpec(
        channels=channels, bits=4, out_bits=8, parameters="constant",
        thresholds=(tuple(limits.tolist()),),
    )  # fmt: skip
    graph = graph_of(layer(4, limits, way, channels))
    codes = codes_of(graph)
    program = lower(graph, EngineShape(rounding="single", left_shift=2))
    found = golden.results(program, codes)
    assert (found == freqlayer.layer(spec, codes)).all()
    assert len(np.unique(found)) > 8


@pytest.mark.parametrize("zero", [0, 9, -128])
@pytest.mark.parametrize("way", WAYS)
def test_spectrum_is_rounded_once(way, zero):
    """8-bit inputs have spectra of 12 bits; the file says 8, and which code stands for 0."""
    limits = np.random.default_rng(SEED).integers(0, 300, 16)
    graph = graph_of(layer(8, limits, way, kept=8.0, back=1 / 4, zero=zero))
    codes = codes_of(graph)
    spectrum = freqlayer.soft(fast(codes), limits)
    kept = np.sign(spectrum) * rounded(np.abs(spectrum), 3)
    assert kept.min() < -128 - zero
    kept = np.clip(kept, -128 - zero, 127 - zero)
    wanted = np.clip(rounded(fast(kept) * 8, 2), -128, 127)
    assert (reference.run(graph, codes) == wanted).all()
    program = lower(graph, EngineShape(rounding="single", left_shift=2))
    assert (golden.results(program, codes) == wanted).all()


@pytest.mark.parametrize("way", WAYS)
def test_layer_of_a_vector(way):
    """MatMul instead of convolutions, 5 of 16 codes back."""
    limits = np.random.default_rng(SEED).integers(0, 300, 16)
    net = Net(np.random.default_rng(SEED), (16,))
    net.quant(1.0)
    net.at = net.node("MatMul", [net.at, net.constant(hadamard(16).astype(np.float32))])
    net.soft_threshold(limits, way)
    net.quant(8.0)
    net.at = net.node("MatMul", [net.at, net.constant(hadamard(16)[:, :5].astype(np.float32) / 4)])
    net.quant(1.0)
    graph = graph_of(net)
    codes = codes_of(graph)
    spectrum = freqlayer.soft(fast(codes), limits)
    kept = np.clip(np.sign(spectrum) * rounded(np.abs(spectrum), 3), -128, 127)
    wanted = np.clip(rounded(fast(kept)[:, :5] * 8, 2), -128, 127)
    program = lower(graph, EngineShape(rounding="single", left_shift=2))
    assert (golden.results(program, codes).reshape(wanted.shape) == wanted).all()


@pytest.mark.parametrize("weights", ["quantised", "signs"])
def test_powers_of_two_lose_nothing(weights):
    """A transform's weights are ± 1, which 4 bits of power of two have."""
    limits = np.random.default_rng(SEED).integers(0, 99, 16)
    graph = graph_of(layer(8, limits, kept=16.0, quantised=weights == "quantised"))
    codes = codes_of(graph)
    spec = PoTSpec(outputs=16, lanes=36)
    own, report = power_of_two(graph, spec.weight_format)
    assert max(r.error for r in report) == 0
    shape = EngineShape(rounding="single", weight=spec.weight_format, left_shift=2)
    assert (golden.results(lower(own, shape), codes) == reference.run(graph, codes)).all()


SIZES = {"map_words": 64, "keep_words": 16, "program_words": 512, "channels": 32}


@pytest.mark.parametrize(
    "core",
    [
        PoTSpec(outputs=8, lanes=9, fill_lanes=1),
        pytest.param(LutNASpec(outputs=8, lanes=9, fill_lanes=3), marks=pytest.mark.slow),
    ],
    ids=lambda core: core.unit,
)
def test_layer_on_the_hardware(core, tmp_path):
    limits = np.random.default_rng(SEED).integers(0, 300, 16)
    graph = graph_of(layer(8, limits, channels=11, kept=16.0, size=(2, 3)))
    if isinstance(core, PoTSpec):
        graph, _ = power_of_two(graph, core.weight_format)
    engine = NetworkSpec(core=core, scalers=2, chunk=16, rounding="single", left_shift=1, **SIZES)
    program = lower(graph, EngineShape.of(engine))
    codes = codes_of(graph, 3)[1:]
    assert (golden.results(program, codes) == reference.run(graph, codes)).all()
    path = tmp_path / "net.mfp"
    path.write_bytes(program.to_bytes())
    result = runner.regress(
        engine,
        simulator="icarus" if runner.available("icarus") else "verilator",
        testcase="runs_program",
        environment={"MULFREE_PROGRAM": str(path), "MULFREE_INPUTS": json.dumps(codes.tolist())},
    )
    assert (result.tests, result.failed) == (1, 0), result.log


def unlike(net):
    """Subtract ReLUs of two different transforms."""
    source = net.at
    net.transform(16, 16)
    first = net.node("Relu", [net.at])
    net.at = source
    net.transform(16, 16, 2.0)
    second = net.node("Relu", [net.node("Neg", [net.at])])
    net.at = net.node("Sub", [first, second])


def shrink(lambd, bias):
    def build(net):
        net.transform(16, 16)
        net.at = net.node("Shrink", [net.at], lambd=lambd, bias=bias)

    return build


def smooth(net):
    net.transform(16, 16)
    net.at = net.node("Mul", [net.node("Tanh", [net.at]), net.node("Abs", [net.at])])


def unclipped(net):
    net.transform(16, 16)
    net.at = net.node("Mul", [net.node("Sign", [net.at]), net.node("Abs", [net.at])])


def soft(thresholds, then="", **attributes):
    def build(net):
        net.transform(16, 16)
        net.soft_threshold(thresholds, "sign")
        if then != "unquantised":
            net.quant(8.0)
        if then == "Add":
            net.at = net.node("Add", [net.at, net.at])
        elif then and then != "unquantised":
            net.at = net.node(then, [net.at], **attributes)
        if then == "unquantised":
            net.transform(16, 16)

    return build


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (shrink(2.0, 0.0), "with lambd 2 and bias 0 is not supported: use one number for both"),
        (soft(-1.0), "with a threshold of -1 is not supported: use 0 or more"),
        (soft(1.0, "unquantised"), "on a value that is not quantised is not supported: put a"),
        (soft(1.0, "Add"), "on a soft threshold is not supported: put a convolution or MatMul"),
        (soft(1.0, "MaxPool", kernel_shape=[2, 2]), "on a soft threshold is not supported: put"),
        (soft(1.0), "model must have a layer behind a soft threshold, not end with it"),
        (smooth, "(Tanh 'v4') of model is not supported: replace it"),
        (unclipped, "of two values is not supported: it is as part of a soft threshold, Sign(v)"),
        (unlike, "of two values is not supported: it is as part of a soft threshold, Sign(v)"),
    ],
)
def test_refuses(build, sentence):
    net = Net(np.random.default_rng(SEED), (16, 4, 4))
    net.quant(1.0)
    build(net)
    with pytest.raises(ModelError) as error:
        graph_of(net)
    assert sentence in str(error.value)
