"""`mulfree build`: a bitstream, or for a Zynq a Vivado project, with what it takes."""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from mulfree.catalog import KINDS
from mulfree.files import write_bytes
from mulfree.options import given_fields
from mulfree.soc.options import system_options
from mulfree.soc.presets import changed
from mulfree.spec import SpecError
from mulfree_boards import BOARDS, openxc7, presence, sizing, softcore, zynq
from mulfree_boards import build as builds
from mulfree_boards.board import BAUD, Board
from mulfree_boards.build import Plan
from mulfree_boards.commands.flash import find
from mulfree_boards.flow import BuildError
from mulfree_boards.sizing import Sized
from mulfree_lab.synthesis import SynthesisError
from mulfree_models.commands.compile import SHIPPED
from mulfree_models.commands.models import is_model, read_model, read_network
from mulfree_models.recode import digits_graph

#: What of an engine may be given beside a network; the rest follows from it.
SIZED_BY = ("kind",)
TITLES = {"lut": "LUTs", "ff": "flip-flops", "ram": "block RAMs", "dsp": "DSP blocks"}


def plan(
    board: Board, values: dict[str, Any], freq: float | None, baud: int, sized: Sized | None = None
) -> Plan:
    """Return what is asked for, or the system that was sized for a network.

    Raises
    ------
    SpecError
        A value breaks a rule.
    """
    hz, pll = builds.clock(board, freq)
    given = {name: values[name] for name in given_fields() if name in values}
    uart = board.uart(round(hz), baud)
    if sized is not None:
        spec = dataclasses.replace(sized.spec, **uart)
    else:
        spec = changed(board.system, uart | given)
    if spec.bridge != board.bridge:
        raise SpecError(f"bridge must be {board.bridge} on {board.name}, not {spec.bridge}")
    return Plan(board, spec, hz, pll)


def build(
    board: str, freq: float | None, baud: int, network: Path | None, utilization: float | None,
    firmware: Path | None, ram_words: int | None, seed: int, directory: Path | None,
    dry_run: bool, fresh: bool, as_json: bool, **values: Any,
) -> int:  # fmt: skip
    """Build; return 1 where the timing is missed."""
    sized = None
    try:
        if network is not None:
            sized = size(find(board), network, values, utilization or sizing.FILLED)
        elif utilization is not None:
            raise SpecError("utilization must come with --network, as nothing is sized otherwise")
        asked = dataclasses.replace(plan(find(board), values, freq, baud, sized), seed=seed)
        if firmware is not None:
            soft = softcore.beside(asked.board, asked.spec, firmware, ram_words)
            asked = dataclasses.replace(asked, soft=soft)
        elif ram_words is not None:
            raise SpecError("ram-words must come with --firmware, as there is no core otherwise")
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    except BuildError as error:
        raise click.ClickException(str(error)) from None
    directory = directory or Path("build") / board
    try:
        if asked.board.zynq:
            return _zynq(asked, directory, dry_run, as_json)
        if dry_run:
            builds.check_fits(asked)
            _show_plan(asked, as_json, sized)
            return 0
        with _Shown() as shown:
            built = builds.build(asked, shown.begin, shown.tick, fresh)
        facts = builds.deliver(asked, built, directory)
        if sized is not None:
            runs_at = min(facts["asked_mhz"], facts["fmax_mhz"])
            facts["network"] = _network_facts(sized, runs_at)
            program = write_bytes(directory / f"{asked.name}.mfp", sized.program.to_bytes())
            facts["network"]["program"] = str(program)
    except (BuildError, SynthesisError) as error:
        raise click.ClickException(str(error)) from None
    facts["bitstream"] = str(directory / asked.bitstream) if facts["meets_timing"] else None
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        _table(asked, facts["used"], "used")
        click.echo(f"clock: {facts['fmax_mhz']:g} MHz possible, {facts['asked_mhz']:g} MHz asked")
        click.echo(f"array: {presence.total(facts['array_cells']):,} cells in the routed chip")
        if sized is not None:
            _show_network(sized, facts["network"])
    if not facts["meets_timing"]:
        click.echo(
            f"mulfree: timing is missed: ask for --freq {int(facts['fmax_mhz'])} or less, or try "
            f"another --seed; no bitstream was written, the logs are in {directory}",
            err=True,
        )
        return 1
    if not as_json:
        click.echo(f"bitstream: {facts['bitstream']}")
        click.echo(f"next: mulfree flash {board}")
    return 0


def size(board: Board, network: Path, values: dict[str, Any], filled: float) -> Sized:
    """Return the engine for a program, a model or a shipped network.

    Raises
    ------
    SpecError
        A value breaks a rule.
    BuildError
        No engine fits.
    """
    given = {name: values[name] for name in given_fields() if name in values}
    for name in given:
        if name not in SIZED_BY and not any(name in sizing.own(kind) for kind in KINDS):
            raise SpecError(f"{name} must not be given with --network, which says what it is")
    if str(network) in SHIPPED:
        return sizing.of_graph(board, digits_graph(), given, filled)
    if is_model(network):
        return sizing.of_graph(board, read_model(network), given, filled)
    return sizing.of_program(board, read_network(network), given, filled)


class _Shown:
    """What is under way and for how long, on standard error; plain lines where nobody looks."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self._live = console.is_terminal
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
            console=console, transient=True,
        )  # fmt: skip
        self._task: Any = None
        self._title, self._since = "", time.monotonic()

    def __enter__(self) -> "_Shown":
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        if self._live:
            self._progress.stop()

    def begin(self, title: str) -> None:
        """Say what begins."""
        self._end()
        self._title, self._since = title, time.monotonic()
        if self._live:
            self._task = self._progress.add_task(title)
        else:
            print(f"{title} …", file=sys.stderr, flush=True)

    def tick(self) -> None:
        """Keep the display alive; Rich does so in a thread of its own."""

    def _end(self) -> None:
        if self._title and self._live:
            self._progress.remove_task(self._task)
            self._progress.print(f"{self._title}: {time.monotonic() - self._since:.0f} s")
        self._title = ""


def _network_facts(sized: Sized, mhz: float) -> dict[str, Any]:
    """Return the clocks of an inference, and how many there are a second."""
    rate = round(mhz * 1e6 / sized.cycles, 1)
    return {"name": sized.program.name, "cycles": sized.cycles, "inferences_per_second": rate}


def _show_network(sized: Sized, facts: dict[str, Any]) -> None:
    core = sized.spec.core
    click.echo(
        f"engine: {core.unit}, {core.outputs} outputs × {core.lanes} lanes, "
        f"{sized.spec.scalers} scalers, {sized.spec.chunk} pixels a chunk"
    )
    click.echo(
        f"network: {facts['name']}, {facts['cycles']:,} clocks an inference, "
        f"{facts['inferences_per_second']:,.0f} inferences/s"
    )


def _show_plan(asked: Plan, as_json: bool, sized: Sized | None = None) -> None:
    expected = asked.estimate
    used = {"lut": expected.luts, "ff": expected.ff, "ram": expected.ram, "dsp": 0}
    if as_json:
        facts = {
            "board": asked.board.name, "clock_mhz": asked.clock_hz / 1e6, "estimated": used,
            "pll": asked.pll.parameters if asked.pll else None, "spec": asked.spec.to_dict(),
        }  # fmt: skip
        if sized is not None:
            facts["network"] = _network_facts(sized, asked.clock_hz / 1e6)
        click.echo(json.dumps(facts, indent=2))
        return
    _table(asked, used, "estimated")
    if sized is not None:
        _show_network(sized, _network_facts(sized, asked.clock_hz / 1e6))
    made = "made by the PLL" if asked.pll else "the board's own"
    click.echo(f"clock: {asked.clock_hz / 1e6:g} MHz, {made}")
    click.echo("nothing was built: --dry-run")


def _table(asked: Plan, used: dict[str, int], heading: str) -> None:
    device = asked.board.device
    there = {"lut": device.luts, "ff": device.ff, "ram": device.ram, "dsp": device.dsp}
    table = Table(box=None, pad_edge=False)
    for title in (f"{asked.board.name} ({device.name})", heading, "there", ""):
        table.add_column(title, justify="left" if "(" in title else "right", no_wrap=True)
    for what, title in TITLES.items():
        table.add_row(
            title, f"{used[what]:,}", f"{there[what]:,}", f"{used[what] / there[what]:.0%}"
        )
    Console(width=100, highlight=False).print(table)


def _zynq(asked: Plan, directory: Path, dry_run: bool, as_json: bool) -> int:
    """Write a Vivado project, with Yosys' own count of what the system takes."""
    builds.check_fits(asked)
    if dry_run:
        _show_plan(asked, as_json)
        return 0
    with _Shown() as shown:
        shown.begin("generating and counting with Yosys")
        used = zynq.count(asked.spec, asked.board)
        paths = zynq.write(asked.board, asked.spec, asked.clock_hz, directory)
        absent = openxc7.missing(asked.board)
        made = None if absent else openxc7.build(asked, directory, shown.begin, shown.tick)
    missed = made is not None and made["bitstream"] is None
    if as_json:
        facts = {
            "board": asked.board.name, "device": asked.board.device.name, "counted": used,
            "asked_mhz": asked.clock_hz / 1e6, "files": [str(path) for path in paths],
            "spec": asked.spec.to_dict(), "openxc7": {"missing": absent} if absent else made,
        }  # fmt: skip
        click.echo(json.dumps(facts, indent=2))
        return int(missed)
    _table(asked, used, "Yosys")
    for path in paths:
        click.echo(path)
    if made is None:
        click.echo(f"without Vivado, by openXC7, no bitstream is made: {absent}", err=True)
        click.echo(f"next: vivado -mode batch -source {directory / 'build.tcl'}")
    elif missed:
        click.echo(
            f"mulfree: timing is missed by openXC7: ask for --freq {int(made['fmax_mhz'])} or "
            f"less, or use Vivado; no bitstream was written",
            err=True,
        )
    else:
        click.echo(f"clock: {made['fmax_mhz']:g} MHz possible by openXC7")
        click.echo(f"bitstream: {made['bitstream']}")
    return int(missed)


command = click.Command(
    "build",
    callback=build,
    params=[
        click.Argument(["board"]),
        click.Option(["--freq"], type=float, help="clock in MHz  [default: the board's]"),
        click.Option(
            ["--baud"], type=int, default=BAUD, show_default=True, help="speed of the UART"
        ),
        click.Option(
            ["--network"],
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="NET",
            help="a program (.mfp), a model (.tflite, .onnx) or digits: the fastest network engine "
            "for it that fits the board, in place of the board's own system",
        ),
        click.Option(
            ["--utilization"],
            type=click.FloatRange(0.05, 1),
            help="part of the LUTs and flip-flops that an engine for a network may take, by "
            f"estimate  [default: {sizing.FILLED:g}]",
        ),
        click.Option(
            ["--firmware"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="put a soft core beside the engine, its memory filled from this file of `mulfree "
            "firmware`",
        ),
        click.Option(["--ram-words"], type=int, help="memory of the core, words of 32 bits"),
        click.Option(
            ["--seed"],
            type=click.IntRange(0, 2**31 - 1),
            default=1,
            show_default=True,
            help="where placing begins; another seed may meet a clock that this one misses "
            "(not Vivado's)",
        ),
        click.Option(
            ["-o", "--directory"],
            type=click.Path(path_type=Path, file_okay=False),
            help="folder to write into  [default: build/BOARD]",
        ),
        click.Option(["--dry-run"], is_flag=True, help="estimate, and say what would be built"),
        click.Option(["--fresh"], is_flag=True, help="run the tools even for a build that is kept"),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
        *system_options(),
    ],
    help=f"Build a bitstream with the system for a board: {', '.join(BOARDS)}. For a Zynq, write "
    "a Vivado project.\n\nExample: mulfree build ulx3s-85f --outputs 8 --lanes 16",
)  # fmt: skip
