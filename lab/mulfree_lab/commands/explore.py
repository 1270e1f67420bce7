"""`mulfree explore UNIT`: measure a design space, point by point, and find its front."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from mulfree.catalog import UNITS, spec_class
from mulfree.files import write_text
from mulfree.options import read_matrix, spec_options
from mulfree_lab.evaluate import technologies
from mulfree_lab.explore import (
    RECIPES,
    Outcome,
    Plan,
    Store,
    SweepError,
    axis,
    explore,
    flat,
    front,
    plan,
    read,
    to_csv,
)
from mulfree_lab.synthesis import warm
from mulfree_lab.technology import TECHNOLOGIES

OPTIONS: list[click.Parameter] = [
    click.Option(["--sweep"], multiple=True, metavar="FIELD=VALUES",
                 help="a parameter and its values: 2,4,8 or 2:8 or 2:8:2, or names; repeat it"),
    click.Option(["--target"], default="ecp5", show_default=True,
                 help=f"families, separated by commas: {', '.join(TECHNOLOGIES)}"),
    click.Option(["--recipe"], type=click.Choice(RECIPES), default="default", show_default=True,
                 help="the family's plain synthesis, or all recipes, of which the smallest result"),
    click.Option(["--sample"], type=click.IntRange(1), metavar="N",
                 help="draw N designs at random instead of taking every combination"),
    click.Option(["--seed"], type=int, default=1, show_default=True, help="of the random draw"),
    click.Option(["--store"], type=click.Path(dir_okay=False, path_type=Path),
                 default=Path("sweep.jsonl"), show_default=True,
                 help="where results are kept; a sweep goes on from what is there"),
    click.Option(["--front", "objectives"], default="lut_equivalents,products", show_default=True,
                 help="what the Pareto front weighs: counts (less is better), products a clock and "
                 "integers of the Spec (more is better)"),
    click.Option(["--csv", "csv_path"], type=click.Path(dir_okay=False, path_type=Path),
                 help="write the sweep's results here as CSV"),
    click.Option(["--jobs"], type=click.IntRange(1, 256),
                 help="syntheses at a time  [default: one a processor]"),
    click.Option(["--scheduler"], metavar="ADDRESS",
                 help="measure on the workers of a Dask scheduler, tcp://HOST:PORT"),
    click.Option(["--fresh"], is_flag=True, help="measure again what is already known"),
    click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
]  # fmt: skip


class Units(click.Group):
    """A sub-command for every unit, with the unit's options and those of a sweep."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the units' names."""
        return list(UNITS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Build the command of one unit."""
        if cmd_name not in UNITS:
            raise click.UsageError(f"unit must be one of {', '.join(UNITS)}, not {cmd_name!r}")
        kind = spec_class(cmd_name)
        own = {option.name for option in spec_options(kind)}

        def callback(**values: Any) -> None:
            context = click.get_current_context()
            written = click.core.ParameterSource.COMMANDLINE
            fixed = {
                name: read_matrix(name, value) if isinstance(value, Path) else value
                for name, value in values.items()
                if name in own and context.get_parameter_source(name) is written
            }
            run(kind, fixed, **{n: v for n, v in values.items() if n not in own})

        return click.Command(
            cmd_name, params=[*spec_options(kind), *OPTIONS], callback=callback,
            help=f"Sweep parameters of {cmd_name}; those given as options stay fixed.\n\n"
            f"Example: mulfree explore {cmd_name} --sweep FIELD=VALUES --target ecp5,xc7",
        )  # fmt: skip


command = Units(
    "explore",
    help="Measure a design space and find its Pareto front.\n\n"
    "Example: mulfree explore array --outputs 2 --lanes 2 --sweep kind=lutna,pot "
    "--sweep act_bits=2:8 --target ecp5,xc7",
)


def run(
    kind: Any, fixed: dict[str, Any], sweep: tuple[str, ...], target: str, recipe: str,
    sample: int | None, seed: int, store: Path, objectives: str, csv_path: Path | None,
    jobs: int | None, scheduler: str | None, fresh: bool, as_json: bool,
) -> None:  # fmt: skip
    """Plan a sweep, measure what the store has not, and print the front or JSON."""
    names = [name.strip() for name in objectives.split(",") if name.strip()]
    try:
        chosen = [t.name for t in technologies([n.strip() for n in target.split(",") if n.strip()])]
        planned = plan(kind, fixed, [axis(kind, s) for s in sweep], chosen, recipe, sample, seed)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    try:
        with Store(store) as opened:
            outcome = _measure(planned, opened, jobs, scheduler, fresh)
    except SweepError as error:
        raise click.UsageError(str(error)) from None
    try:
        best = front(outcome.records, names) if outcome.records else {}
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if csv_path:
        write_text(csv_path, to_csv(outcome.records))
    if as_json:
        click.echo(json.dumps(_summary(planned, outcome, best, store)))
    else:
        _print(planned, outcome, best, names, store)
    if outcome.failed:
        point, why = outcome.failed[0]
        raise click.ClickException(
            f"{len(outcome.failed)} of {len(planned.points)} points failed; "
            f"the first, on {point.target}: {why}"
        )


def _measure(
    planned: Plan, store: Store, jobs: int | None, scheduler: str | None, fresh: bool
) -> Outcome:
    if scheduler is None and not warm():
        click.echo(
            "preparing the synthesis tool: once for this user, about half a minute …", err=True
        )
    total = len(planned.points)
    with _bar() as show:

        def progress(done: int, _: int, record: dict[str, Any] | None) -> None:
            show(done, total, record["target"] if record else "exploring")

        try:
            return explore(planned.points, store, jobs, scheduler, fresh, progress)
        except KeyboardInterrupt:
            # The last line may have been written without the store's knowing yet.
            kept = store.records.keys() | {record["id"] for record in read(store.path)}
            done = sum(p.id in kept for p in planned.points)
            click.echo(
                f"{done} of {total} points are kept in {store.path}; "
                "the same command goes on from there",
                err=True,
            )
            raise


@contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("exploring")
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=what
        )


def _summary(
    planned: Plan, outcome: Outcome, best: dict[str, list[dict[str, Any]]], store: Path
) -> dict[str, Any]:
    return {
        "points": list(outcome.records),
        "front": {target: [r["id"] for r in records] for target, records in best.items()},
        "kept": outcome.kept,
        "illegal": dict(planned.illegal),
        "failed": [
            {"spec": p.spec.to_dict(), "target": p.target, "error": why}
            for p, why in outcome.failed
        ],
        "store": str(store),
    }


def _print(
    planned: Plan, outcome: Outcome, best: dict[str, list[dict[str, Any]]],
    names: list[str], store: Path,
) -> None:  # fmt: skip
    rows = {r["id"]: flat(r) for records in best.values() for r in records}
    varied = [
        name
        for name in dict.fromkeys(n for row in rows.values() for n in row)
        if name not in ("id", "target", "seconds", "unit", "cells", "recipe", "matrix")
        and name in _parameters(outcome)
        and len({str(flat(r).get(name)) for r in outcome.records}) > 1
        and name not in names
    ]
    table = Table(title=f"Pareto front: {', '.join(names)}")
    for heading in ("target", *names, *varied):
        table.add_column(heading, justify="left" if heading in ("target", "kind") else "right")
    for target, records in best.items():
        for place, record in enumerate(records):
            row = rows[record["id"]]
            cells = [target if place == 0 else "", *(row.get(n, "") for n in (*names, *varied))]
            table.add_row(*map(str, cells), end_section=place == len(records) - 1)
    Console().print(table)
    measured = len(outcome.records) - outcome.kept
    click.echo(f"{len(planned.points)} points, {measured} of them measured now, in {store}")
    if planned.illegal:
        sentence, _ = planned.illegal.most_common(1)[0]
        count = sum(planned.illegal.values())
        click.echo(f"{count} combinations were left out, such as: {sentence}")


def _parameters(outcome: Outcome) -> set[str]:
    """Return the columns that are parameters of a Spec."""
    rows = [flat(r) for r in outcome.records]
    return {n for row in rows for n in list(row)[: list(row).index("recipe")]}
