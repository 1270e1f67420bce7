"""`mulfree prove UNIT`: what is claimed of the unit's Verilog, proved by SymbiYosys."""

import json
import sys

import click
from rich.console import Console
from rich.table import Table

from mulfree.options import unit_group
from mulfree.spec import Spec, SpecError
from mulfree_sim import formal


def prove(spec: Spec, timeout: int, verbose: bool, as_json: bool) -> None:
    """Run every proof of one unit; exit code 1 when one is not found."""
    try:
        tasks = formal.proofs(spec)
    except SpecError as error:
        raise click.UsageError(str(error)) from None
    results = []
    for task in tasks:
        if sys.stderr.isatty():
            click.echo(f"proving {spec.unit}: {task.name} …", err=True)
        try:
            results.append(formal.run(task, timeout))
        except formal.ProofError as error:
            raise click.ClickException(str(error)) from None
        if not as_json and (verbose or not results[-1].proved):
            click.echo(results[-1].log)
    if as_json:
        click.echo(json.dumps({"unit": spec.unit, "spec": spec.to_dict(), "proofs": [
            {"name": r.proof.name, "claim": r.proof.claim, "mode": r.proof.mode,
             "depth": r.proof.depth, "status": r.status, "seconds": round(r.seconds, 2)}
            for r in results]}))  # fmt: skip
    else:
        _print(spec, results)
    if not all(r.proved for r in results):
        sys.exit(1)


def _print(spec: Spec, results: list[formal.ProofResult]) -> None:
    table = Table(title=f"{spec.unit}: proofs")
    for heading in ("proof", "method", "result", "seconds", "claim"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    for r in results:
        method = {
            "prove": f"induction, {r.proof.depth} clocks",
            "bmc": f"first {r.proof.depth} clocks",
            "structure": "netlist",
        }[r.proof.mode]
        table.add_row(r.proof.name, method, r.status, f"{r.seconds:.1f}", r.proof.claim)
    Console().print(table)


command = unit_group(
    "prove",
    "Prove what is claimed of a unit's Verilog.\n\n"
    "Example: mulfree prove baseline --form booth --act-bits 6 --weight-bits 6",
    prove,
    [
        click.Option(["--timeout"], type=click.IntRange(min=1), default=formal.TIMEOUT,
                     show_default=True, help="seconds after which a proof counts as not found"),
        click.Option(["--verbose", "-v"], is_flag=True, help="print the tools' log"),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
    ],
)  # fmt: skip
