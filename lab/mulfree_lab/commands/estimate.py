"""`mulfree estimate UNIT`: what a unit will take, without synthesis."""

import json

import click
from rich.console import Console
from rich.table import Table

from mulfree.options import unit_group
from mulfree.spec import Spec
from mulfree_lab.estimator import TARGETS, estimate
from mulfree_lab.synthesis import SynthesisError


def run(spec: Spec, target: str, as_json: bool) -> None:
    """Estimate one unit on every target and print a table or JSON."""
    names = [name.strip() for name in target.split(",") if name.strip()]
    try:
        found = [estimate(spec, name) for name in dict.fromkeys(names)]
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    except SynthesisError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"estimates": [e.to_dict() for e in found]}))
        return
    table = Table(title=f"{spec.unit}: what it will take, estimated")
    for heading in ("target", "LUT eq.", "FF", "RAM", "median error", "95 % below"):
        table.add_column(heading, justify="left" if heading == "target" else "right")
    for e in found:
        known = (f"{e.typical:.1%}", f"{e.worst:.1%}") if not e.beyond else ("beyond sweep", "")
        table.add_row(e.target, *map(str, (e.lut_equivalents, e.ff, e.ram)), *known)
    Console().print(table)


command = unit_group(
    "estimate",
    "Predict what a unit takes on FPGA families, in seconds, without their synthesis.\n\n"
    "Example: mulfree estimate array --kind lutna --outputs 4 --lanes 8 --target ecp5,xc7",
    run,
    [
        click.Option(["--target"], default="ecp5", show_default=True,
                     help=f"families, separated by commas: {TARGETS.replace(',', ', ')}"),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
    ],
)  # fmt: skip
