import dataclasses
import json

import pytest

from mulfree import SpecError
from mulfree.emit import write_unit
from mulfree.soc.presets import PRESETS, changed, preset
from mulfree.soc.top import SocSpec
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_sim import runner

SEED = 31
SMALL = {
    "bit_clocks": 4,
    "timeout_bits": 10,
    "program_words": 256,
    "data_words": 64,
    "acc_slots": 4,
    "channels": 8,
}


def small(**parameters) -> SocSpec:
    return SocSpec(**({"core": LutNASpec(outputs=4, lanes=4)} | SMALL | parameters))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"core": LutNASpec(lanes=6)}, "lanes must be a multiple of 4, not 6"),
        ({"core": LutNASpec(lanes=4, act_bits=9)}, "act_bits must be at most 8, not 9"),
        (
            {"core": LutNASpec(lanes=4, weight_bits=9)},
            "a weight's code must have at most 8 bits, not 9",
        ),
        (
            {"core": LutNASpec(lanes=4, weights="constant", matrix=((1, 2, 3, 4),))},
            "weights must be loadable, not constant",
        ),
        ({"bridge": "spi"}, "bridge must be one of uart, wishbone, axilite, not 'spi'"),
        ({"data_words": 8}, "data_words must be between 16 and 65536, not 8"),
    ],
)
def test_spec_refuses(parameters, message):
    with pytest.raises(SpecError) as error:
        small(**parameters)
    assert str(error.value) == message


@pytest.mark.parametrize("board", PRESETS)
def test_presets_survive_json(board):
    assert SocSpec.from_json(preset(board).to_json()) == preset(board)


def test_no_such_board():
    with pytest.raises(SpecError, match=r"board must be one of ulx3s-85f, .*, not 'de10'"):
        preset("de10")


def test_changed_parameters():
    base = preset("icebreaker")
    other = changed(base, {"lanes": 8, "acc_slots": 3})
    assert (other.core.lanes, other.acc_slots) == (8, 3)
    assert dataclasses.replace(other, core=base.core, acc_slots=base.acc_slots) == base
    pot = changed(base, {"kind": "pot"})
    assert isinstance(pot.core, PoTSpec)
    assert pot.core.weight_bits == 4
    with pytest.raises(SpecError, match="lanes must be a multiple of 4, not 5"):
        changed(base, {"lanes": 5})


def test_a_system_for_a_target_runs_it():
    for core in (LutNASpec(lanes=4, outputs=2), PoTSpec(lanes=8, terms=2, weight_bits=3)):
        target = small(core=core).target
        again = SocSpec.for_target(target).target
        assert dataclasses.replace(again, engine=0) == dataclasses.replace(target, engine=0)
        assert again.engine >> 8 == target.engine >> 8
    approximate = LutNASpec(lanes=4, act_bits=8, digit_bits=2, drop_digits=1)
    with pytest.raises(SpecError, match="weights must be exact to be run without a board"):
        SocSpec.for_target(small(core=approximate).target)


def test_names_that_tools_look_for(tmp_path):
    _, manifest = write_unit(small(bridge="axilite"), tmp_path)
    names = {p["name"] for p in json.loads(manifest.read_text())["ports"]}
    assert {"s_axi_awaddr", "s_axi_rdata", "s_axis_tdata", "m_axis_tlast", "interrupt"} <= names


def regress(spec: SocSpec) -> None:
    simulator = "icarus" if runner.available("icarus") else "verilator"
    result = runner.regress(spec, simulator=simulator, seed=SEED)
    assert result.passed, result.log


def test_axilite_against_cocotbext_axi():
    pytest.importorskip("cocotbext.axi", reason="cocotbext-axi is not installed")
    regress(small(bridge="axilite"))


#: Kinds and corners: one lane group, unsigned and narrow numbers, powers of two, no spare slot.
SYSTEMS = [
    small(bridge="wishbone"),
    small(bridge="uart"),
    small(bridge="wishbone", core=BaselineSpec(outputs=3, lanes=8), rounding="double"),
    small(bridge="wishbone", core=PoTSpec(outputs=4, lanes=4, terms=2, weight_bits=3)),
    small(
        bridge="wishbone",
        core=LutNASpec(outputs=1, lanes=12, act_bits=5, act_signed=False, weight_bits=4),
        acc_slots=1,
        acc_bits=20,
    ),
    small(bridge="axilite", core=LutNASpec(outputs=4, lanes=4, double_buffer=True)),
]


@pytest.mark.slow
@pytest.mark.parametrize("spec", SYSTEMS, ids=lambda s: f"{s.bridge}-{s.core.unit}")
def test_systems_equal_golden(spec):
    regress(spec)
