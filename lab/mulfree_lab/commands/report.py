"""`mulfree report`: one page of everything that was measured."""

from pathlib import Path

import click

from mulfree_lab.report import ReportError, gather, write


@click.command("report")
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("report"),
    show_default=True, help="folder for report.html, report.json and the CSV files",
)  # fmt: skip
def command(results: tuple[Path, ...], output: Path) -> None:
    """Make one page of tables and plots from RESULTS.

    RESULTS are JSON files of evaluate, stores of explore, or folders of such files. The page holds
    everything that it shows and needs no network.

    Example: mulfree report docs/results sweep.jsonl -o report
    """
    try:
        made = write(gather(results), output)
    except ReportError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"output must be a folder to write to: {error}") from None
    click.echo(f"{made[0]} and {len(made) - 1} data files")
