"""The Vivado project: its script runs against stubs, and what it names is in the Verilog."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mulfree.soc.presets import changed
from mulfree.soc.top import SocSpec
from mulfree_boards import BOARDS, zynq
from mulfree_boards.board import Board

ZYNQ = [name for name, board in BOARDS.items() if board.zynq]
STUBS = Path(__file__).with_name("stubs.tcl")


@pytest.fixture(scope="module")
def tclsh() -> str:
    found = shutil.which("tclsh")
    if found is None:
        pytest.skip("tclsh is not installed")
    return found


@pytest.fixture(scope="module", params=ZYNQ)
def project(request, tmp_path_factory):
    """A board and the folder of its project."""
    board = BOARDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    zynq.write(board, system(board), board.clock_hz, folder)
    return board, folder


def system(board: Board) -> SocSpec:
    """Return the board's system with a small array, which changes no port."""
    return changed(board.system, {"outputs": 1, "lanes": 4})


def run(tclsh: str, folder: Path, slack: str) -> tuple[int, list[str], str]:
    """Return exit code, the calls of Vivado's commands, and standard error."""
    done = subprocess.run(
        [tclsh, str(STUBS), str(folder / "build.tcl"), slack], capture_output=True, text=True
    )
    calls = [line[5:] for line in done.stdout.splitlines() if line.startswith("CALL ")]
    return done.returncode, calls, done.stderr


def shell_ports(folder: Path) -> dict[str, str]:
    """Port -> attribute in front of it, of the module that the block design takes."""
    text = (folder / f"{zynq.SHELL}.v").read_text()
    return {
        name: attribute
        for attribute, name in re.findall(
            r"\(\* (.*?) \*\)\n  (?:input|output) wire (?:\[\d+:0\] )?(\w+)", text
        )
    }


def test_script_connects_what_is_there(tclsh, project):
    board, folder = project
    code, calls, errors = run(tclsh, folder, "0.5")
    assert (code, errors) == (0, "")
    named = {call.split()[0] for call in calls}
    assert {
        "create_project",
        "create_bd_design",
        "validate_bd_design",
        "write_hw_platform",
    } <= named
    text = "\n".join(calls)
    # Files that the script adds are written.
    for file in re.findall(r"[^\s{}]+\.v\b", text):
        assert Path(file).exists(), file
    # Every pin named is of a block that is made, and of our own block a port of its Verilog.
    cells = {call.split()[-1] for call in calls if call.startswith("create_bd_cell")}
    assert cells == {"ps", "interconnect", "resets", "mulfree"}
    there = shell_ports(folder)
    buses = {m[1] for a in there.values() if (m := re.search(r":interface:\S+ (\w+) ", a))}
    assert buses == {"s_axi", "s_axis", "m_axis"}
    for kind, pin in re.findall(r"get_bd_(intf_)?pins (\S+)", text):
        block, name = pin.split("/")
        assert block in cells, pin
        if block == "mulfree":
            assert name in (buses if kind else there), pin
    # The clock, the reset and the bus are connected to our block, and the interrupt from it.
    pins = set(re.findall(r"get_bd_(?:intf_)?pins mulfree/(\w+)", text))
    assert pins == {"aclk", "aresetn", "s_axi", "interrupt"}
    assert f"-offset 0x{board.zynq.base:08X} -range 4096K" in text
    assert f"{{{board.clock_hz / 1e6:g}}}" in text or f" {board.clock_hz / 1e6:g}" in text


def test_script_fails_when_timing_is_missed(tclsh, project):
    _, folder = project
    code, calls, errors = run(tclsh, folder, "-0.25")
    assert code == 1
    assert "timing is missed by 0.25 ns at 100 MHz" in errors
    assert not any(call.startswith("write_") for call in calls)


def test_shell_has_every_port_of_the_system(project):
    _, folder = project
    there = shell_ports(folder)
    text = (folder / f"{zynq.SYSTEM}.v").read_text()
    header = re.search(rf"^module {zynq.SYSTEM} *\((.*?)\);", text, re.M | re.S)
    assert header is not None
    names = re.findall(r"\w+", header[1])
    expected = set(names) - {"clk", "rst"}
    assert {"s_axi_awaddr", "s_axis_tdata", "m_axis_tdata", "interrupt"} <= expected
    assert set(there) == expected | {"aclk", "aresetn"}
    inside = re.findall(r"\.(\w+)\(", (folder / f"{zynq.SHELL}.v").read_text())
    assert sorted(inside) == sorted(names)
    for port in expected:
        if port.startswith(("s_axi", "m_axi")):
            bus, _, signal = port.rpartition("_")
            assert f" {bus} {signal.upper()}" in there[port]


def test_simulator_reads_the_project(iverilog, project):
    _, folder = project
    done = subprocess.run(
        [iverilog, "-g2005", "-t", "null", "-s", zynq.SHELL, *map(str, folder.glob("*.v"))],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
