import pytest

from mulfree import SpecError
from mulfree.engine.network import NetworkSpec
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_sim import runner

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
    ],
)
def test_spec_refuses(core, parameters, message):
    with pytest.raises(SpecError) as error:
        spec(BaselineSpec(**({"outputs": 4, "lanes": 9} | core)), **parameters)
    assert str(error.value) == message


def test_spec_survives_json():
    assert NetworkSpec.from_json(spec().to_json()) == spec()


@pytest.mark.parametrize(
    "engine",
    [
        spec(chunk=16),
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
    ],
    ids=[
        "small",
        "pot, two slices a clock",
        "two powers",
        "lutna",
        "lutna, filled at once",
        "double buffer",
    ],
)
def test_networks_equal_golden_to_the_clock(engine):
    simulator = "icarus" if runner.available("icarus") else "verilator"
    result = runner.regress(engine, simulator=simulator, seed=SEED)
    assert result.passed, result.log
