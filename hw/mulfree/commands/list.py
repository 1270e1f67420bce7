"""`mulfree list`: every unit and what it is."""

import json

import click

from mulfree.catalog import UNITS, spec_class


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def command(as_json: bool) -> None:
    """List the units that can be generated, checked and measured."""
    rows = {unit: (spec_class(unit).__doc__ or "").strip().splitlines()[0] for unit in UNITS}
    if as_json:
        click.echo(json.dumps({"units": [{"name": n, "summary": s} for n, s in rows.items()]}))
        return
    width = max(map(len, rows))
    for name, summary in rows.items():
        click.echo(f"{name:<{width}}  {summary}")
