"""Whole compiled networks on engines of several sizes: outputs and clocks of the RTL, exactly."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mulfree.engine.layers import EngineShape
from mulfree.engine.network import NetworkSpec
from mulfree.engine.program import Program
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_models.importers import load
from mulfree_models.lowering import lower
from mulfree_models.recode import digits_graph, power_of_two
from mulfree_sim import runner
from tests.models.layers import RELU, SAME, chain, residual

SEED = 61
SIZES = {"map_words": 512, "keep_words": 2048, "program_words": 16384, "channels": 64}

#: Sizes of arrays, of slices, of chunks; weights one at a time, by lanes, and all at once.
ENGINES = {
    "4 x 9": NetworkSpec(core=BaselineSpec(outputs=4, lanes=9), scalers=2, chunk=16, **SIZES),
    "8 x 18": NetworkSpec(
        core=LutNASpec(outputs=8, lanes=18, fill_lanes=3), scalers=2, chunk=32, **SIZES
    ),
    "12 x 36": NetworkSpec(
        core=BaselineSpec(outputs=12, lanes=36, fill_lanes=4), scalers=4, chunk=128, **SIZES
    ),
    "8 x 72": NetworkSpec(
        core=LutNASpec(outputs=8, lanes=72, fill_lanes=72), scalers=8, chunk=5, **SIZES
    ),
    "16 x 9 powers of two": NetworkSpec(
        core=PoTSpec(outputs=16, lanes=9, weight_bits=4, fill_lanes=1),
        scalers=8,
        chunk=20,
        **SIZES,
    ),
}


def pooled(rng):
    """Convolutions, the largest of 2 × 2, a dense layer."""
    return chain(
        rng, ("conv", 9), ("pool", "MAX", (2, 2), (2, 2)), ("conv", 14, (5, 5)), ("dense", 10)
    )


def mixed(rng):
    """A residual block, then a depthwise convolution and an average."""
    net = residual(rng, RELU)
    net.conv(5, depthwise=True, padding=SAME)
    net.pool("AVERAGE", (3, 3), (3, 3))
    return net


def graph(name, folder):
    """Return a network by its name."""
    if name == "dense":
        return replace(digits_graph(), rounding="double")
    net = {"pooled": pooled, "mixed": mixed}[name](np.random.default_rng(SEED))
    (folder / "net.tflite").write_bytes(net.to_bytes())
    return load(folder / "net.tflite")


def runs(engine: NetworkSpec, name: str, folder) -> None:
    own = graph(name, folder)
    if isinstance(engine.core, PoTSpec):
        own, _ = power_of_two(own, engine.core.weight_format)
    program = lower(own, EngineShape.of(engine))
    path = folder / "net.mfp"
    path.write_bytes(program.to_bytes())
    assert program.cycles(engine) == Program.from_bytes(path.read_bytes()).cycles(engine)
    codes = np.random.default_rng(SEED).integers(-128, 128, (1, *program.input_shape))
    result = runner.regress(
        engine,
        seed=SEED,
        simulator="icarus" if runner.available("icarus") else "verilator",
        testcase="runs_program",
        environment={"MULFREE_PROGRAM": str(path), "MULFREE_INPUTS": json.dumps(codes.tolist())},
    )
    assert (result.tests, result.failed) == (1, 0), result.log


def test_a_dense_network(tmp_path):
    runs(ENGINES["4 x 9"], "dense", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "pooled", "mixed"])
@pytest.mark.parametrize("engine", ENGINES)
def test_clocks_of_every_engine(engine, name, tmp_path):
    runs(ENGINES[engine], name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_programs_from_outside(engine, tmp_path):
    """The same clocks with every word in time; with late ones the same outputs."""
    runs(replace(ENGINES[engine], program="stream"), "mixed", tmp_path)
