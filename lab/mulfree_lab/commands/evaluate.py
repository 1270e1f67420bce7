"""`mulfree evaluate UNIT`: what a unit takes on each family, beside its multiplying counterpart."""

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mulfree.options import unit_group
from mulfree.spec import Spec
from mulfree_lab.evaluate import FORMS, PEERS, TARGETS, Result, evaluate, technologies
from mulfree_lab.netlist import NetlistError
from mulfree_lab.synthesis import Job, SynthesisError, Synthesizer, warm
from mulfree_lab.technology import Technology


def run(
    spec: Spec,
    target: str | None,
    liberty: Path | None,
    against: str,
    jobs: int | None,
    fresh: bool,
    route: bool,
    as_json: bool,
) -> None:
    """Measure one unit on every target and print a table or JSON."""
    try:
        names = _names(target or ("" if liberty else "ecp5"))
        found = _measure(spec, technologies(names, liberty), against, jobs, fresh, route)
    except (TypeError, ValueError) as error:
        if isinstance(error, NetlistError):
            raise click.ClickException(str(error)) from None
        raise click.UsageError(str(error)) from None
    except SynthesisError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"results": [result.to_dict() for result in found]}))
    else:
        _print(spec, found)


def _measure(
    spec: Spec, chosen: list[Technology], against: str, jobs: int | None, fresh: bool, route: bool
) -> list[Result]:
    if not warm():
        click.echo(
            "preparing the synthesis tool: once for this user, about half a minute …", err=True
        )
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("synthesising")

        def progress(done: int, total: int, job: Job | None) -> None:
            what = f"{job.technology.name}, {job.recipe.name}" if job else "synthesising"
            what = "placing and routing" if route and done == total else what
            bar.update(task, completed=done, total=total, description=what)

        return evaluate(
            spec, chosen, _names(against), Synthesizer(jobs, fresh), progress, _given(), route
        )


def _given() -> frozenset[str]:
    """Return the options that the user wrote: structures that are tried keep them."""
    context = click.get_current_context(silent=True)
    if context is None:
        return frozenset()
    written = click.core.ParameterSource.COMMANDLINE
    return frozenset(n for n in context.params if context.get_parameter_source(n) is written)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _print(spec: Spec, results: list[Result]) -> None:
    table = Table(title=f"{spec.unit}: what it takes")
    headings = ("target", "design", "recipe", "LUT eq.", "wide", "FF", "RAM", "DSP", "depth")
    routed = any(result.device for result in results)
    for heading in (*headings, *(["MHz"] if routed else []), "ratio"):
        table.add_column(heading, justify="left" if heading in headings[:3] else "right")
    for result in results:
        bare = [result.without_ram] if result.without_ram else []
        theirs = sorted(result.baselines, key=lambda m: m.counts.size)
        rows = [result.ours, *bare, *theirs]
        for place, made in enumerate(rows):
            c = made.counts
            cells: list[Any] = [
                result.target if place == 0 else "", made.name, made.recipe.name,
                f"{c.area:,.0f} µm²" if c.area else c.lut_equivalents,
                c.wide_muxes, c.ff, c.ram, c.dsp, c.depth,
                *([made.fmax or ""] if routed else []),
                f"{result.ratio:.3f}" if place == 0 and result.ratio is not None else "",
            ]  # fmt: skip
            table.add_row(*map(str, cells), end_section=place == len(rows) - 1)
    Console().print(table)
    if sys.stdout.isatty():
        click.echo("ratio: LUT equivalents or area over those of the smallest baseline", err=True)


command = unit_group(
    "evaluate",
    "Measure a unit on FPGA families beside conventional multipliers.\n\n"
    "Example: mulfree evaluate lutna --act-bits 8 --weight-bits 8 --target ecp5,ice40",
    run,
    [
        click.Option(["--target"],
                     help=f"families, separated by commas: {', '.join(TARGETS)}  [default: ecp5]"),
        click.Option(["--liberty"], type=click.Path(path_type=Path),
                     help="standard cells of this Liberty file"),
        click.Option(["--against"], default="star", show_default=True,
                     help="what to compare with, separated by commas: "
                     f"{', '.join((*FORMS, *PEERS))}; star tries Yosys' booth pass too"),
        click.Option(["--jobs"], type=click.IntRange(1, 256),
                     help="syntheses at a time  [default: one a processor]"),
        click.Option(["--fresh"], is_flag=True, help="synthesise again what is already known"),
        click.Option(["--route"], is_flag=True,
                     help="place and route the smallest of each side: the clock that it reaches"),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
    ],
)  # fmt: skip
