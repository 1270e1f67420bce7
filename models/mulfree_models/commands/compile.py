"""`mulfree compile`: a network to a Program that a board runs."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from mulfree.files import write_bytes
from mulfree.soc.options import board_names, system, system_options
from mulfree.soc.program import ProgramError

if TYPE_CHECKING:
    from mulfree_models.commands.models import Compiled
    from mulfree_models.digits import Digits

#: Networks that come with the package.
SHIPPED = ("digits",)


def compile_to_file(
    network: str, output: Path, board: str, engine: str, inputs: Path | None, labels: Path | None,
    as_json: bool, **values: Any,
) -> None:  # fmt: skip
    """Compile a model file or a shipped network; write the program, and what to try it with."""
    from mulfree_models import digits, program
    from mulfree_models.commands.models import (
        compile_graph,
        compile_model,
        is_model,
        read_engine,
    )
    from mulfree_models.recode import digits_graph

    if is_model(Path(network)):
        if inputs or labels:
            raise click.UsageError("--inputs and --labels must come with a shipped network")
        found = compile_model(Path(network), *read_engine(engine, Path(network)))
        write_network(found, output, as_json)
        return
    if network not in SHIPPED:
        raise click.UsageError(
            f"network must be one of {', '.join(SHIPPED)} or a .tflite or .onnx file, "
            f"not {network!r}"
        )
    data = digits.load()
    if engine:
        shape, own = read_engine(engine)
        graph = replace(digits_graph(), rounding=shape.rounding)
        found = compile_graph(graph, network, shape, own)
        write_network(found, output, as_json)
        write_data(data, inputs, labels)
        return
    spec = system(board, values)
    try:
        compiled = program.compile_network(program.digits_network(spec), spec)
    except ProgramError as error:
        raise click.UsageError(str(error)) from None
    content = compiled.to_bytes()
    write_program(content, output)
    write_data(data, inputs, labels)
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


def write_program(content: bytes, output: Path) -> None:
    """Write a program; what the disk refuses is a sentence."""
    try:
        write_bytes(output, content)
    except OSError as error:
        raise click.ClickException(f"cannot write to {output}: {error.strerror}") from None


def write_data(data: "Digits", inputs: Path | None, labels: Path | None) -> None:
    """Write held-out inputs and their classes where they are wanted."""
    from mulfree_models import digits

    for path, array in ((inputs, digits.scaled(data.test_images)), (labels, data.test_labels)):
        if path is not None:
            stored = io.BytesIO()
            np.save(stored, array)
            write_program(stored.getvalue(), path)


def write_network(found: "Compiled", output: Path, as_json: bool) -> None:
    """Write a network's program and say what it needs."""
    content = found.program.to_bytes()
    shape = found.program.shape
    write_program(content, output)
    needs = found.program.needs
    facts = {
        "file": str(output),
        "bytes": len(content),
        "layers": len(found.program.layers),
        "input": list(found.program.input_shape),
        "output": list(found.program.output_shape),
        "needs": needs,
        "weight_errors": {r.name: r.error for r in found.recoded},
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"{output}: {facts['layers']} layers, {facts['bytes']} bytes; needs {needs['outputs']} "
        f"outputs × {shape.lanes} lanes, {needs['map_words']} words in each bank of map memory, "
        f"{needs['keep_words']} of residual memory"
    )
    for r in found.recoded:
        click.echo(f"  {r.name}: powers of two differ by {100 * r.error:.1f} % (RMS)")


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
            ["--engine"],
            default="",
            help="compile for a network engine: name=value pairs with commas between them "
            "(kind=lutna,outputs=16,lanes=36,scalers=4,map_words=2048, …), or a Spec as JSON file",
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
    "NETWORK is digits, the shipped one, or a quantised model: a .tflite or .onnx file.\n\n"
    "Example: mulfree compile digits --board icebreaker -o digits.mfp\n\n"
    "Example: mulfree compile net.tflite --engine outputs=16,lanes=36 -o net.mfp",
)
