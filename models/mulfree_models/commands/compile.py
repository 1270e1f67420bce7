"""`mulfree compile`: a network to a Program that a board runs."""

import io
import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from mulfree.files import write_bytes
from mulfree.soc.options import board_names, system, system_options
from mulfree.soc.program import ProgramError

#: Networks that come with the package.
SHIPPED = ("digits",)


def compile_to_file(
    network: str, output: Path, board: str, inputs: Path | None, labels: Path | None,
    as_json: bool, **values: Any,
) -> None:  # fmt: skip
    """Compile a shipped network and write the program, and what to try it with."""
    from mulfree_models import digits, program

    if network not in SHIPPED:
        raise click.UsageError(f"network must be one of {', '.join(SHIPPED)}, not {network!r}")
    spec = system(board, values)
    try:
        compiled = program.compile_network(program.digits_network(spec), spec)
    except ProgramError as error:
        raise click.UsageError(str(error)) from None
    content = compiled.to_bytes()
    data = digits.load()
    try:
        write_bytes(output, content)
        for path, array in (
            (inputs, digits.scaled(data.test_images)),
            (labels, data.test_labels),
        ):
            if path is not None:
                stored = io.BytesIO()
                np.save(stored, array)
                write_bytes(path, stored.getvalue())
    except OSError as error:
        raise click.ClickException(f"cannot write to {output}: {error.strerror}") from None
    facts = {
        "file": str(output),
        "bytes": len(content),
        "layers": len(compiled.layers),
        "inputs": compiled.widths[0],
        "outputs": compiled.widths[-1],
        "batch": compiled.batch,
        "needs": compiled.target.describe(),
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"{output}: {facts['layers']} layers, {facts['inputs']} inputs to {facts['outputs']} "
            f"outputs, {facts['bytes']} bytes; needs {facts['needs']}"
        )


command = click.Command(
    "compile",
    callback=compile_to_file,
    params=[
        click.Argument(["network"]),
        click.Option(
            ["-o", "--output"],
            type=click.Path(path_type=Path, dir_okay=False),
            required=True,
            help="program to write",
        ),
        click.Option(
            ["--board"],
            default="ulx3s-85f",
            show_default=True,
            help=f"whose engine it is laid out for ({board_names()})",
        ),
        click.Option(
            ["--inputs"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="write the network's held-out inputs too, .npy",
        ),
        click.Option(
            ["--labels"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="and their classes, .npy",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
        *system_options(),
    ],
    help="Compile a network for the engine of a board, or for another one.\n\n"
    "NETWORK is digits, the shipped one.\n\n"
    "Example: mulfree compile digits --board icebreaker -o digits.mfp",
)
