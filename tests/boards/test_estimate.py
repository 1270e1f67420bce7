"""The estimate against syntheses of whole systems, and what it refuses."""

from dataclasses import replace

import pytest

from mulfree.engine.layers import EngineShape
from mulfree.soc.networksoc import NetworkSocSpec
from mulfree.soc.presets import changed, preset
from mulfree.units.lutna import LutNASpec
from mulfree_boards import BOARDS
from mulfree_boards.build import Plan, check_fits
from mulfree_boards.estimate import estimate
from mulfree_boards.flow import BuildError
from mulfree_models.lowering import lower
from mulfree_models.recode import digits_graph

#: Family, engine, then LUT equivalents, flip-flops and block RAMs from `synth_*` of Yosys 0.70; on
#: iCE40 logic cells after placement. 4096 words of program and 1024 of data, but for iCE40.
MEASURED = [
    ("ecp5", {"outputs": 2, "lanes": 4, "acc_slots": 4}, (4575, 2272, 12)),
    ("ecp5", {"outputs": 8, "lanes": 8}, (8484, 5310, 12)),
    ("ecp5", {"kind": "pot", "outputs": 4, "lanes": 8}, (6055, 3216, 12)),
    ("ecp5", {"kind": "baseline", "outputs": 4, "lanes": 8}, (15993, 2195, 12)),
    ("gowin", {"outputs": 2, "lanes": 4, "acc_slots": 4}, (4725, 2269, 12)),
    ("gowin", {"outputs": 4, "lanes": 8}, (6253, 3573, 12)),
    ("gowin", {"kind": "pot", "outputs": 4, "lanes": 8}, (6107, 3215, 12)),
    ("gowin", {"outputs": 8, "lanes": 8}, (8504, 5308, 12)),
]


@pytest.mark.parametrize(("technology", "values", "measured"), MEASURED)
def test_against_synthesis(technology, values, measured):
    base = changed(preset("tang-nano-9k"), {"program_words": 4096, "data_words": 1024})
    found = estimate(changed(base, values), technology)
    luts, ff, ram = measured
    assert found.luts == pytest.approx(luts, rel=found.error)
    assert found.ff == pytest.approx(ff, rel=found.error)
    assert found.ram == ram


def test_against_the_large_board():
    found = estimate(preset("ulx3s-85f"), "ecp5")
    assert found.luts == pytest.approx(20213, rel=found.error)
    assert found.ff == pytest.approx(14572, rel=found.error)
    assert found.ram == 26


#: Outputs, slice, scalers, lanes loaded at once, words for sums, then LUTs, flip-flops and, with
#: the digits network, block RAMs of a ULX3S's system as nextpnr packs it (TRELLIS_COMB, TRELLIS_FF,
#: DP16KD). The last two are ResNet-8's.
NETWORKS = [
    (4, 1, 1, 1, 0, (10411, 7729, 19)),
    (4, 1, 4, 3, 0, (12877, 10710, 25)),
    (8, 2, 2, 1, 0, (21630, 16405, 27)),
    (8, 2, 8, 3, 0, (26239, 23279, 41)),
    (16, 4, 8, 2, 2048, (62084, 48359, None)),
    (8, 8, 8, 9, 2048, (66545, 54286, None)),
]


@pytest.mark.parametrize(
    ("outputs", "slice_", "scalers", "fill_lanes", "keep_words", "measured"), NETWORKS
)
def test_network_engines(outputs, slice_, scalers, fill_lanes, keep_words, measured):
    core = LutNASpec(outputs=outputs, lanes=9 * slice_, fill_lanes=fill_lanes)
    shape = EngineShape(outputs=outputs, slice_channels=slice_, scalers=scalers, program_words=0)
    program = lower(replace(digits_graph(), rounding="double"), shape)
    spec = NetworkSocSpec.around(program, core=core, keep_words=keep_words)
    found = estimate(spec, "ecp5")
    luts, ff, ram = measured
    assert found.luts == pytest.approx(luts, rel=found.error)
    assert found.ff == pytest.approx(ff, rel=found.error)
    if ram is not None:
        assert ram <= found.ram <= ram + 1


def test_against_ice40():
    found = estimate(preset("icebreaker"), "ice40")
    assert found.luts == pytest.approx(4987, rel=found.error)
    assert found.ram == 25


@pytest.mark.parametrize("board", BOARDS)
def test_every_default_fits(board):
    target = BOARDS[board]
    check_fits(Plan(target, target.system, target.clock_hz, None))


def test_refusal_says_by_how_much():
    target = BOARDS["tang-nano-9k"]
    spec = changed(target.system, {"outputs": 16, "lanes": 16})
    expected = estimate(spec, "gowin")
    with pytest.raises(BuildError) as error:
        check_fits(Plan(target, spec, target.clock_hz, None))
    over = expected.luts / 8640 - 1
    assert f"about {expected.luts:,} LUTs for 8,640 ({over:.0%} too many)" in str(error.value)
    assert "block RAMs" not in str(error.value)
