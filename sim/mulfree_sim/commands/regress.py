"""`mulfree regress UNIT`: the unit's cocotb bench against its golden model."""

import json
import sys

import click

from mulfree.options import unit_group
from mulfree.spec import Spec
from mulfree_sim import runner


def regress(spec: Spec, simulator: str, seed: int | None, verbose: bool, as_json: bool) -> None:
    """Run the bench of one unit; exit code 1 when a test fails."""
    if sys.stderr.isatty():
        click.echo(f"compiling and running {spec.unit} under {simulator} …", err=True)
    try:
        result = runner.regress(spec, simulator=simulator, seed=seed)
    except runner.SimulationError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        facts = {
            "unit": spec.unit,
            "simulator": simulator,
            "seed": result.seed,
            "tests": result.tests,
            "failed": result.failed,
            "spec": spec.to_dict(),
        }
        click.echo(json.dumps(facts))
    else:
        if verbose or not result.passed:
            click.echo(result.log)
        click.echo(
            f"{spec.unit}: {result.tests - result.failed} passed, {result.failed} failed "
            f"({simulator}, seed {result.seed})"
        )
    if not result.passed:
        sys.exit(1)


command = unit_group(
    "regress",
    "Run a unit's bench: its Verilog against the golden model.\n\n"
    "Example: mulfree regress lutna --act-bits 8 --weight-bits 8 --seed 1",
    regress,
    [
        click.Option(["--simulator"], type=click.Choice(runner.SIMULATORS), default="verilator",
                     show_default=True, help="what runs the Verilog"),
        click.Option(["--seed"], type=int, help="seed of the random stimuli  [default: drawn]"),
        click.Option(["--verbose", "-v"], is_flag=True, help="print the simulator's log"),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
    ],
)  # fmt: skip
