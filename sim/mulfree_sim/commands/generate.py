"""`mulfree generate UNIT`: Verilog and manifest, with a testbench and a FuseSoC core on request."""

import json
from pathlib import Path

import click

from mulfree.emit import module_name, write_unit
from mulfree.options import command_line, unit_group
from mulfree.spec import Spec
from mulfree_sim.runner import SimulationError


def generate(
    spec: Spec, output: Path, name: str | None, testbench: bool, fusesoc: bool, seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Write the files of one unit and print their names."""
    name = name or module_name(spec)
    if not name.startswith("mulfree_") or not name.isidentifier() or not name.isascii():
        raise click.UsageError(f"name must be an identifier starting with mulfree_, not {name!r}")
    try:
        written = write_unit(spec, output, name, command_line(spec))
        if testbench:
            from mulfree_sim.testbench import write_testbench

            written += write_testbench(spec, output, name, seed)
        if fusesoc:
            from mulfree_sim.fusesoc import write_core

            written.append(write_core(spec, output, name, written))
    except SimulationError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot write to {output}: {error.strerror}") from None
    if as_json:
        click.echo(json.dumps({"files": [str(path) for path in written]}))
    else:
        for path in written:
            click.echo(path)


command = unit_group(
    "generate",
    "Generate the Verilog and manifest of a unit.\n\n"
    "Example: mulfree generate lutna --act-bits 8 --weight-bits 8 -o out",
    generate,
    [
        click.Option(
            ["-o", "--output"], type=click.Path(path_type=Path, file_okay=False),
            default=Path("."), show_default="the current folder", help="folder to write to",
        ),
        click.Option(["--name"], help="name of the top module  [default: mulfree_UNIT]"),
        click.Option(["--testbench"], is_flag=True, help="add a self-checking testbench"),
        click.Option(["--fusesoc"], is_flag=True, help="add a FuseSoC .core file"),
        click.Option(["--seed"], type=int, default=0, help="seed of the testbench's vectors"),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
    ],
)  # fmt: skip
