"""`mulfree firmware`: a network and images as a program for the soft core beside the engine."""

import json
from pathlib import Path
from typing import Any

import click

from mulfree.files import write_bytes, write_text
from mulfree.soc import riscv
from mulfree.soc.options import board_names, system, system_options
from mulfree.soc.program import ProgramError
from mulfree.spec import SpecError
from mulfree_firmware.commands.run import read_inputs, read_labels, read_program


def firmware(
    program: Path, source: Path, labels: Path | None, output: Path, board: str,
    ram_words: int | None, run: bool, as_json: bool, **values: Any,
) -> None:  # fmt: skip
    """Build firmware, and run it in simulation where asked."""
    from mulfree_firmware import riscv as builder
    from mulfree_sim.runner import SimulationError

    compiled = read_program(program)
    inputs = read_inputs(compiled, source)
    classes = None if labels is None else read_labels(labels, len(inputs))
    try:
        spec = builder.beside(system(board, values), ram_words)
        made = builder.build(spec, compiled, inputs, classes)
    except (TypeError, ProgramError, SpecError, builder.FirmwareError) as error:
        raise click.UsageError(str(error)) from None
    files = output / riscv.FIRMWARE, output / Path(riscv.FIRMWARE).with_suffix(".elf")
    try:
        write_text(files[0], made.hexadecimal)
        write_bytes(files[1], made.elf)
    except OSError as error:
        raise click.ClickException(f"cannot write to {output}: {error.strerror}") from None
    facts: dict[str, Any] = {
        "files": [str(file) for file in files],
        "bytes": 4 * len(made.words),
        "memory_bytes": 4 * spec.ram_words,
        "images": len(inputs),
    }
    if not as_json:
        click.echo(
            f"{files[0]}: {facts['bytes']} of {facts['memory_bytes']} bytes, "
            f"{facts['images']} images"
        )
    if run:
        click.echo("simulating the whole system …", err=True)
        show = (lambda _: None) if as_json else click.echo
        try:
            lines = builder.run(spec, made, show)
        except (SpecError, SimulationError, builder.FirmwareError) as error:
            raise click.ClickException(str(error)) from None
        facts["console"] = lines
    if as_json:
        click.echo(json.dumps(facts))


command = click.Command(
    "firmware",
    callback=firmware,
    params=[
        click.Argument(["program"], type=click.Path(path_type=Path, dir_okay=False)),
        click.Option(
            ["--input", "source"],
            type=click.Path(path_type=Path, dir_okay=False),
            required=True,
            help="images to carry, .npy: integers are codes, real numbers are coded",
        ),
        click.Option(
            ["--labels"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="right classes, .npy: the firmware prints its accuracy",
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Path(path_type=Path, file_okay=False),
            default=Path("build/firmware"),
            show_default=True,
            help="folder for the firmware",
        ),
        click.Option(
            ["--board"],
            default="ulx3s-85f",
            show_default=True,
            help=f"whose engine is beside the core ({board_names()})",
        ),
        click.Option(
            ["--ram-words"],
            type=int,
            help="memory of the core, words of 32 bits  "
            f"[default: {riscv.RiscvSpec.__dataclass_fields__['ram_words'].default}]",
        ),
        click.Option(["--run"], is_flag=True, help="run it in a simulation of the whole system"),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
        *system_options(),
    ],
    help="Build a program for a RISC-V core beside the engine, which classifies images by itself.\n"
    "\nPROGRAM is a compiled network. The core's memory is filled with what is written.\n\n"
    "Example: mulfree firmware digits.mfp --input images.npy --labels labels.npy --run",
)
