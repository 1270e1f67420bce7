"""`mulfree flash`: a bitstream onto a board, through openFPGALoader."""

import shutil
import subprocess
from pathlib import Path

import click

from mulfree.spec import SpecError
from mulfree_boards import BOARDS
from mulfree_boards.board import Board
from mulfree_boards.flow import FLOWS


def find(name: str) -> Board:
    """Return a board by its name.

    Raises
    ------
    SpecError
        There is none of that name.
    """
    if name not in BOARDS:
        raise SpecError(f"board must be one of {', '.join(BOARDS)}, not {name!r}")
    return BOARDS[name]


def bitstream(board: Board, directory: Path) -> Path:
    """Return where a build leaves the bitstream."""
    way = FLOWS.get(board.device.technology)
    return directory / f"mulfree_{board.name}.{way.bitstream if way else 'bit'}"


def reason(said: str, board: Board) -> str:
    """Return what openFPGALoader's words come to, in one sentence."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    absent = ("unable to open", "device not found", "no cable", "usb_open", "not found", "found 0")
    if not lines or any(word in said.lower() for word in absent):
        return (
            f"no {board.title} answers; connect it by USB, and check that you may use the port "
            f"(openFPGALoader: {lines[-1] if lines else 'no message'})"
        )
    return f"openFPGALoader failed: {lines[-1]}"


def flash(board: str, directory: Path | None, keep: bool) -> None:
    """Load a bitstream that `mulfree build` made."""
    try:
        target = find(board)
    except SpecError as error:
        raise click.UsageError(str(error)) from None
    directory = directory or Path("build") / board
    file = bitstream(target, directory)
    loader = shutil.which("openFPGALoader")
    if loader is None:
        raise click.ClickException(
            "openFPGALoader is not installed; get it from your system's packages (Debian: `apt "
            "install openfpgaloader`) or https://trabucayre.github.io/openFPGALoader"
        )
    if not file.exists():
        first = f"run `mulfree build {board}`" + (" and Vivado" if target.zynq else "")
        raise click.ClickException(f"there is no bitstream {file}; {first} first")
    command = [loader, "-b", target.loader, *(["--write-flash"] if keep else []), str(file)]
    click.echo(f"loading {file} …", err=True)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=300,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise click.ClickException(f"{target.title} did not finish within 5 minutes") from None
    if done.returncode:
        raise click.ClickException(reason(done.stdout + done.stderr, target))
    click.echo(f"{target.title} runs {file.name}", err=True)


command = click.Command(
    "flash",
    callback=flash,
    params=[
        click.Argument(["board"]),
        click.Option(
            ["-o", "--directory"],
            type=click.Path(path_type=Path, file_okay=False),
            help="folder of the build  [default: build/BOARD]",
        ),
        click.Option(
            ["--keep/--no-keep"], default=False, show_default=True,
            help="into the board's flash memory, so that it is there after power is off",
        ),
    ],
    help="Load the bitstream of a build onto a board, with openFPGALoader.\n\n"
    "Example: mulfree flash ulx3s-85f",
)  # fmt: skip
