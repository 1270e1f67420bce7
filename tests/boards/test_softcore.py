"""A soft core in the bitstream: what the tools read, what is refused, a build."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from mulfree.soc import riscv
from mulfree.soc.presets import changed
from mulfree.spec import SpecError
from mulfree_boards import BOARDS, build, presence, softcore
from mulfree_boards.build import Plan
from mulfree_boards.flow import BuildError
from mulfree_firmware import build as builder
from mulfree_firmware import riscv as firmware
from mulfree_sim.programs import random_inputs, random_program

pytest.importorskip("pythondata_cpu_picorv32", reason="the RISC-V core is missing")

BOARD = BOARDS["ulx3s-85f"]
SMALL = changed(BOARD.system, {"outputs": 2, "lanes": 4, "acc_slots": 4})


def plan(file: Path, ram_words: int | None = None) -> Plan:
    """Return a small engine with a core beside it."""
    soft = softcore.beside(BOARD, SMALL, file, ram_words)
    return Plan(BOARD, SMALL, BOARD.clock_hz, None, soft)


@pytest.fixture
def words(tmp_path) -> Path:
    file = tmp_path / "some.hex"
    file.write_text("0000006f\n00000013\n")
    return file


def test_tools_read_core_and_contents(words):
    asked = plan(words, 2048)
    files = build.design(asked)
    assert files[riscv.FIRMWARE] == words.read_text()
    assert "module picorv32" in files["picorv32.v"]
    first, second = files["synthesis.ys"].index("picorv32.v"), files["synthesis.ys"].index(".il")
    assert first < second
    assert r"cell \picorv32" in files["top.il"]
    assert f'"{riscv.FIRMWARE}"' in files["top.il"]
    without = build.design(dataclasses.replace(asked, soft=None))
    assert "picorv32.v" not in without
    assert "picorv32.v" not in without["synthesis.ys"]


def test_a_build_depends_on_the_firmware(words, tmp_path):
    other = tmp_path / "other.hex"
    other.write_text("0000006f\n00000093\n")
    plans = [
        plan(words), plan(other), plan(words, 2048), dataclasses.replace(plan(words), soft=None)
    ]  # fmt: skip
    assert len({build.key(build.design(asked), []) for asked in plans}) == len(plans)


def test_the_memory_is_counted(words):
    small, large = plan(words, 2048).estimate, plan(words, 8192).estimate
    assert large.ram - small.ram == 12  # 16 blocks of 4 bits, 4 of 16 with parity left out
    assert small.luts == large.luts > plan(words).estimate.luts - 1
    with pytest.raises(BuildError, match="block RAMs for 208"):
        build.check_fits(plan(words, 1 << 17))


@pytest.mark.parametrize(
    ("board", "content", "ram_words", "sentence"),
    [
        ("arty-z7-20", "0000006f\n", None, "firmware must be loaded into arty-z7-20's own"),
        ("ulx3s-85f", "", None, "firmware must be words in hexadecimal"),
        ("ulx3s-85f", "6f\n", None, "firmware must be words in hexadecimal"),
        ("ulx3s-85f", "0000006f\n" * 1025, 1024, "ram_words must be at least the firmware's 1025"),
        ("ulx3s-85f", "0000006f\n", 1000, "ram_words must be between 1024 and 1048576, not 1000"),
    ],
)
def test_refusals(tmp_path, board, content, ram_words, sentence):
    file = tmp_path / "some.hex"
    file.write_text(content)
    with pytest.raises(SpecError, match=sentence):
        softcore.beside(BOARDS[board], BOARDS[board].system, file, ram_words)
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        softcore.beside(BOARD, SMALL, tmp_path / "absent.hex", ram_words)


@pytest.mark.slow  # the tools take minutes
def test_bitstream(tmp_path):
    """The engine with the core and a real program beside it is routed, and meets the clock."""
    pytest.importorskip("ziglang", reason="ziglang is missing: pip install 'mulfree[riscv]'")
    rng = np.random.default_rng(1)
    program = random_program(SMALL, rng, [9, 5], 2)
    made = firmware.build(riscv.beside(SMALL), program, random_inputs(program, rng, 4))
    file = tmp_path / riscv.FIRMWARE
    file.write_text(builder.hexadecimal(made.words))
    asked = plan(file)
    facts = build.deliver(asked, build.build(asked), tmp_path)
    print(json.dumps(facts["used"]), facts["fmax_mhz"], facts["seconds"])
    assert facts["meets_timing"]
    assert facts["asked_mhz"] == 25
    assert facts["used"]["dsp"] == 0
    assert facts["used"]["ram"] == asked.estimate.ram
    routed = json.loads((tmp_path / "routed.json").read_text())
    for part in (presence.array_of(SMALL, soft_core=True), "soc.core."):
        assert presence.total(presence.cells_under(routed, part)) >= presence.least(SMALL)
    assert (tmp_path / asked.bitstream).read_bytes().startswith(b"\xff\x00")
