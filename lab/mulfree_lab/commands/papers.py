"""`mulfree papers`: the papers' headline figures, and ours."""

import click
from rich.console import Console
from rich.table import Table

from mulfree.spec import SpecError
from mulfree_lab import papers
from mulfree_lab.activity import ActivityError
from mulfree_lab.characterise import MismatchError
from mulfree_lab.liberty import LibertyError
from mulfree_lab.netlist import NetlistError
from mulfree_lab.synthesis import SynthesisError


@click.command(
    "papers",
    help="Print each headline figure of the papers beside ours.\n\n"
    "Example: mulfree papers --measure cells_pot_pruned",
)
@click.option(
    "--measure",
    multiple=True,
    type=click.Choice([*papers.RUNS, "all"]),
    help="measure a result anew first: minutes each; needs qflow-tech-osu018 and iverilog",
)
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def command(measure: tuple[str, ...], as_json: bool) -> None:
    """Measure what is asked for, then print the table or JSON."""
    names = list(papers.RUNS) if "all" in measure else list(measure)
    try:
        for name in names:
            papers.run(name, progress=lambda what: click.echo(f"measuring {what} …", err=True))
    except (SpecError, LibertyError) as error:
        raise click.UsageError(str(error)) from None
    except (ActivityError, MismatchError, NetlistError, SynthesisError) as error:
        raise click.ClickException(str(error)) from None
    rows = papers.table()
    if as_json:
        click.echo(papers.to_json(rows))
        return
    table = Table(title="the papers' figures and ours")
    for heading in ("paper", "what", "theirs", "sure", "ours", "what differs"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.paper, row.claim, row.figure, row.certainty, row.ours, row.differs)
    Console().print(table)
