"""Energy of circuits small enough to work out by hand; toggles; a real core gate by gate."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mulfree.emit import to_verilog
from mulfree.spec import SpecError
from mulfree.units.lutna import LutNASpec
from mulfree_lab import activity, cells, timing
from mulfree_lab.activity import ActivityError, Stimulus, ToggleCounter, annotate, simulate
from mulfree_lab.energy import core_results, core_stimulus, energy
from mulfree_lab.netlist import Cell, Netlist
from mulfree_lab.synthesis import Job, Synthesizer

SMALL = Path(__file__).with_name("small.lib")
needs_icarus = pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="Icarus Verilog is not installed"
)


def technology() -> cells.CellTechnology:
    return cells.technology("small", SMALL)


VCD = """$timescale 1ps $end
$scope module gates $end
$var wire 1 ! n2 $end
$var wire 1 " n3 $end
$var wire 1 " n4 $end
$var wire 2 # word [1:0] $end
$upscope $end
$enddefinitions $end
$dumpvars
0!
x"
b00 #
$end
#10
1!
1"
b01 #
#20
0!
0"
#30
1!
"""


def test_toggles_are_counted_as_they_stream_by() -> None:
    """Where a net was unknown, its first value is no change; names of one net share its count."""
    counter = ToggleCounter()
    counter.feed(VCD.splitlines(keepends=True))
    assert counter.rises() == {"n2": 2, "n3": 0, "n4": 0}
    assert counter.falls() == {"n2": 1, "n3": 1, "n4": 1}


@needs_icarus
def test_two_inverters_by_hand() -> None:
    """a → INV → n → INV → y at 2 V, 5 fF of wire a pin; a is 0 1 0 1 while it counts.

    Loads: a and n 10 + 5 = 15 fF, y 5 fF. Each net changes three times, at V²/2 = 2 V² each:
    2 · 3 · (0.015 + 0.015 + 0.005) = 0.21 pJ. n falls, rises, falls: 2 · 0.03 + 0.02 = 0.08 pJ
    inside; y rises, falls, rises: 2 · 0.02 + 0.03 = 0.07 pJ. Leakage 2 · 1 µW over 4 clocks of
    5 ns: 0.04 pJ.
    """
    netlist = Netlist("t", [
        Cell("one", "INV", {"A": [2]}, {"Y": [3]}),
        Cell("two", "INV", {"A": [3]}, {"Y": [4]}),
    ], {"a": [2]}, {"y": [4]})  # fmt: skip
    timed = annotate(netlist, technology(), wire=0.005)
    assert timed.load == pytest.approx({2: 0.015, 3: 0.015, 4: 0.005})
    stimulus = Stimulus([{"a": 0}, {"a": 0}, {"a": 1}, {"a": 0}, {"a": 1}], begin=1)
    found = simulate(timed, stimulus, period=5.0)
    assert [found.rises[n] for n in (2, 3, 4)] == [2, 1, 2]
    assert [found.falls[n] for n in (2, 3, 4)] == [1, 2, 1]
    assert [row["y"] for row in found.outputs] == [0, 0, 1, 0, 1]
    cost = energy(timed, found)
    assert cost.switching == pytest.approx(0.21)
    assert cost.internal == pytest.approx(0.15)
    assert (cost.clock, cost.leakage) == (0, pytest.approx(0.04))
    assert cost.per(3).total == pytest.approx(0.4 / 3)


@needs_icarus
def test_glitches_count() -> None:
    """a ^ a inverted twice stays 0 but for a pulse as long as the inverters: 0.3 ns, above 0.05.

    Four pulses for four changes: 8 toggles of y at 5 fF, 2 · 8 · 0.005 = 0.08 pJ, each with the
    mean of both inputs' tables, 0.2 pJ, inside.
    """
    netlist = Netlist("t", [
        Cell("one", "INV", {"A": [2]}, {"Y": [3]}),
        Cell("two", "INV", {"A": [3]}, {"Y": [4]}),
        Cell("xor", "XOR", {"A": [2], "B": [4]}, {"Y": [5]}),
    ], {"a": [2]}, {"y": [5]})  # fmt: skip
    timed = annotate(netlist, technology(), wire=0.005)
    stimulus = Stimulus([{"a": a} for a in (0, 0, 1, 0, 1, 0)], begin=1)
    found = simulate(timed, stimulus, period=5.0)
    assert (found.rises[5], found.falls[5]) == (4, 4)
    assert all(row["y"] == 0 for row in found.outputs)
    # a drives two pins: 10 + 20 + 2 · 5 fF; n 15, the inverters' output 25, y 5; 4 changes or 8.
    assert energy(timed, found).switching == pytest.approx(
        2 * (4 * (0.04 + 0.015 + 0.025) + 8 * 0.005)
    )
    inverters = 4 * (0.02 + 0.03)  # two rises and two falls each
    assert energy(timed, found).internal == pytest.approx(inverters + 8 * 0.2)


@needs_icarus
def test_a_flip_flop_pays_for_its_clock() -> None:
    """Idle for four clocks: eight changes of 20 + 5 fF at 2 V², and 0.01 + 0.07 pJ inside each."""
    netlist = Netlist(
        "t", [Cell("q", "DFF", {"D": [3], "CLK": [2]}, {"Q": [4]})],
        {"clk": [2], "d": [3]}, {"q": [4]},
    )  # fmt: skip
    timed = annotate(netlist, technology(), wire=0.005)
    assert timed.clocks == {2}
    found = simulate(timed, Stimulus([{"d": 0}] * 6, begin=2), period=5.0)
    cost = energy(timed, found)
    rises, falls = found.rises[2], found.falls[2]
    assert {rises, falls} <= {3, 4}  # the edge on which counting begins may be before it
    assert cost.clock == pytest.approx(2 * (rises + falls) * 0.025 + 0.01 * rises + 0.07 * falls)
    assert (cost.switching, cost.internal) == (0, 0)


def test_a_missing_simulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity.shutil, "which", lambda _: None)
    with pytest.raises(ActivityError, match="apt-get install iverilog"):
        activity.tool()


def test_constant_weights_cannot_be_loaded() -> None:
    spec = LutNASpec(weights="constant", matrix=[[1]])
    with pytest.raises(SpecError, match="weights must be loadable to be loaded, not constant"):
        core_stimulus(spec, [[1]], [[1]])


@needs_icarus
@pytest.mark.skipif(not cells.PACKAGE.exists(), reason="qflow-tech-osu018 is not installed")
def test_a_core_of_cells_computes_what_its_spec_says() -> None:
    spec = LutNASpec(
        tables="activations", reduce="carry-save", lanes=2, act_bits=4, act_signed=False,
        weight_bits=4,
    )  # fmt: skip
    cell_technology = cells.technology()
    recipe = cell_technology.recipes()[1]
    netlist = Synthesizer(1).netlist(Job(to_verilog(spec), cell_technology, recipe))
    assert cell_technology.count(netlist).area > 0
    assert "LATCH" in netlist.census()  # the weights' clock is gated
    rng = np.random.default_rng(1)
    weights, act = rng.integers(-8, 8, (1, 2)), rng.integers(0, 16, (20, 2))
    timed = annotate(netlist, cell_technology)
    found = simulate(timed, core_stimulus(spec, weights, act))
    results = core_results(spec, found, len(act))
    assert results == (act @ weights.T)[: len(results)].tolist()
    cost = energy(timed, found)
    assert min(cost.switching, cost.internal, cost.clock, cost.leakage) > 0
    if shutil.which("sta") is None:
        return
    # The same order of magnitude as a tool that knows neither the toggles nor the gated clocks.
    mean = timing.mean_activity(timed, found)
    report = timing.analyse(netlist, cell_technology, activity.WIRE, mean, found.period)
    assert 0.6 < report.arrival / max(timed.arrival.values()) < 1.2
    assert 0.2 < report.power / (cost.total / found.clocks / found.period) < 5


def test_a_missing_timing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing.shutil, "which", lambda _: None)
    with pytest.raises(timing.TimingError, match="apt-get install opensta"):
        timing.analyse(Netlist("t", []), technology(), 0.005, 0.1, 5.0)
