"""`mulfree firmware`: a network and images as a program for the processor beside the engine."""

import dataclasses
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

RAM_WORDS = next(f.default for f in dataclasses.fields(riscv.RiscvSpec) if f.name == "ram_words")


def firmware(
    program: Path, source: Path, labels: Path | None, output: Path, board: str,
    ram_words: int | None, run: bool, as_json: bool, **values: Any,
) -> None:  # fmt: skip
    """Build firmware, and run it in simulation where asked."""
    from mulfree_firmware import build
    from mulfree_firmware import riscv as soft
    from mulfree_sim.runner import SimulationError

    compiled = read_program(program)
    inputs = read_inputs(compiled, source)
    classes = None if labels is None else read_labels(labels, len(inputs))
    soc = system(board, values)
    elf_path = (output / riscv.FIRMWARE).with_suffix(".elf")
    written: dict[Path, str] = {}
    made = spec = None
    try:
        machine, base = build.machine_of(board)
        facts: dict[str, Any] = {"machine": machine, "images": len(inputs)}
        if machine == "riscv":
            spec = soft.beside(soc, ram_words)
            made = soft.build(spec, compiled, inputs, classes)
            elf = made.elf
            written[output / riscv.FIRMWARE] = build.hexadecimal(made.words)
            facts |= {"bytes": 4 * len(made.words), "memory_bytes": 4 * spec.ram_words}
        elif run or ram_words is not None:
            raise click.UsageError(f"{board}'s own processor takes neither --run nor --ram-words")
        else:
            elf = build.build(machine, soc, compiled, inputs, classes, engine_base=base)
        for name, text in build.headers(compiled, inputs, classes, base).items():
            written[output / name] = text
    except (TypeError, ProgramError, SpecError, build.FirmwareError) as error:
        raise click.UsageError(str(error)) from None
    try:
        write_bytes(elf_path, elf)
        for path, text in written.items():
            write_text(path, text)
    except OSError as error:
        raise click.ClickException(f"cannot write to {output}: {error.strerror}") from None
    facts["files"] = [str(path) for path in (elf_path, *written)]
    if not as_json:
        room = f", {facts['bytes']} of {facts['memory_bytes']} bytes" if made else ""
        click.echo(f"{elf_path}: {machine}, {facts['images']} images{room}")
    if run and made and spec:
        click.echo("simulating the whole system …", err=True)
        show = (lambda _: None) if as_json else click.echo
        try:
            facts["console"] = soft.run(spec, made, show)
        except (SpecError, SimulationError, build.FirmwareError) as error:
            raise click.ClickException(str(error)) from None
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
            help=f"whose engine the processor is beside ({board_names()})",
        ),
        click.Option(
            ["--ram-words"],
            type=int,
            help=f"memory of a soft core, words of 32 bits  [default: {RAM_WORDS}]",
        ),
        click.Option(["--run"], is_flag=True, help="run it in a simulation of the whole system"),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
        *system_options(),
    ],
    help="Build a program for the processor beside the engine: it classifies images by itself.\n\n"
    "PROGRAM is a compiled network. Zynq boards have a processor; the others get a RISC-V core, "
    "whose memory is filled with the .hex file.\n\n"
    "Example: mulfree firmware digits.mfp --input images.npy --labels labels.npy --run",
)
