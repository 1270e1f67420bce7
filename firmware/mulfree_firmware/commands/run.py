"""`mulfree run`: a program on a board, in simulation, or on the golden model."""

import io
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from mulfree.engine.program import MAGIC as NETWORK_MAGIC
from mulfree.engine.program import Program as NetworkProgram
from mulfree.files import write_bytes
from mulfree.soc.presets import PRESETS
from mulfree.soc.program import Program, ProgramError
from mulfree.soc.top import SocSpec
from mulfree.spec import SpecError
from mulfree_firmware.client import Board, BoardError, RunResult
from mulfree_firmware.line import Line, LineError
from mulfree_models.digits import accuracy

#: A port that is a word, not a URL.
GOLDEN, SIM, RISCV = "golden", "sim", "riscv"
#: How long the answer of a simulated board may take, behind a whole burst of words.
SIMULATION_SECONDS = 60.0


def execute(
    program: Program | NetworkProgram, inputs: NDArray[np.int64], on: str, baud: int
) -> RunResult:
    """Run a program where the user asks for it.

    Raises
    ------
    ProgramError, SpecError, BoardError, LineError, SimulationError, FirmwareError
        It cannot run there, or does not come through.
    """
    if isinstance(program, NetworkProgram):
        return execute_network(program, inputs, on, baud)
    if on == RISCV:
        from mulfree_firmware import riscv

        return riscv.run_program(system_for(program), program, inputs)
    if on == GOLDEN:
        from mulfree_sim.golden import soc

        return RunResult(soc.results(system_for(program), program, inputs), 0, 0)
    with ExitStack() as stack:
        if on == SIM:
            from mulfree_sim.virtual_board import VirtualBoard, on_the_line

            running = VirtualBoard(on_the_line(system_for(program)))
            on = stack.enter_context(running).port
        return _board(stack, on, baud).run(program, inputs)


def execute_network(
    program: NetworkProgram, inputs: NDArray[np.int64], on: str, baud: int
) -> RunResult:
    """Run a program of the network engine; what it raises is `execute`'s."""
    from mulfree_sim.golden import network as golden

    if on == GOLDEN:
        return RunResult(golden.results(program, inputs), 0, 0)
    if on == RISCV:
        raise ProgramError(f"a network must run on {GOLDEN}, {SIM} or a port, not {on}")
    from mulfree_firmware import network

    with ExitStack() as stack:
        if on == SIM:
            from mulfree.soc.networksoc import NetworkSocSpec
            from mulfree_sim.virtual_board import VirtualBoard, on_the_line

            running = VirtualBoard(on_the_line(NetworkSocSpec.for_program(program)))
            on = stack.enter_context(running).port
        found = network.run(_board(stack, on, baud), program, inputs)
    return replace(found, outputs=golden.finish(program, found.outputs))


def _board(stack: ExitStack, port: str, baud: int) -> Board:
    """Return the board on a port; one behind a socket may be simulated, and takes its time."""
    slow = port.startswith("socket://")
    line = Line(port, baud=baud, timeout=SIMULATION_SECONDS if slow else 1.0)
    stack.callback(line.close)
    return Board(line, patience=SIMULATION_SECONDS if slow else 10.0)


def system_for(program: Program) -> SocSpec:
    """Return a board's system that runs a program, or else one made for it."""
    for spec in PRESETS.values():
        try:
            program.check_runs_on(spec.target, spec.program_words, spec.data_words)
        except ProgramError:
            continue
        return spec
    return SocSpec.for_target(
        program.target,
        program_words=max(64, len(program.to_words())),
        data_words=max(16, program.data_words),
    )


def read_program(path: Path) -> Program:
    """Read a program file; a user's mistake is a sentence."""
    try:
        return Program.from_bytes(path.read_bytes())
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from None
    except ProgramError as error:
        raise click.UsageError(f"{path}: {error}") from None


def read_network(path: Path) -> NetworkProgram | None:
    """Read a program of the network engine, or return None when a file is another program."""
    try:
        with path.open("rb") as file:
            if file.read(len(NETWORK_MAGIC)) != NETWORK_MAGIC:
                return None
        return NetworkProgram.from_bytes(path.read_bytes())
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from None
    except ProgramError as error:
        raise click.UsageError(f"{path}: {error}") from None


def read_inputs(program: Program | NetworkProgram, path: Path) -> NDArray[np.int64]:
    """Read inputs, shape (images, inputs) or (inputs,); real ones are coded as the program says."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise click.UsageError(f"cannot read {path} as .npy: {error}") from None
    if values.dtype.kind not in "iuf":
        raise click.UsageError(f"input must be numbers, not {values.dtype}")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise click.UsageError("input must be finite, not infinite or not a number")
        values = program.encode(values)
    if isinstance(program, NetworkProgram):
        return network_inputs(program, values)
    values = np.atleast_2d(values)
    try:
        program.pack(values)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return values.astype(np.int64)


def network_inputs(program: NetworkProgram, values: NDArray) -> NDArray[np.int64]:
    """Return codes as inputs of a network, shape (n, …); one input may come without the n."""
    shape = program.input_shape
    if values.shape == shape:
        values = values[None]
    if values.shape[1:] != shape:
        raise click.UsageError(
            f"input must have shape (n, {', '.join(map(str, shape))}), not {values.shape}"
        )
    try:
        return program.shape.act.check(values, "input")
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def read_labels(path: Path, images: int) -> NDArray[np.int64]:
    """Read classes, shape (images,)."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise click.UsageError(f"cannot read {path} as .npy: {error}") from None
    if values.dtype.kind not in "iu" or values.shape != (images,):
        raise click.UsageError(
            f"labels must be {images} integers, not {values.dtype} of shape {values.shape}"
        )
    return values.astype(np.int64)


@click.command()
@click.argument("program", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--on",
    metavar="PORT|sim|riscv|golden",
    required=True,
    help="a serial port or URL, the virtual board, firmware on a core beside the engine, simulated "
    "too, or the golden model",
)
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="inputs, .npy: integers are codes, real numbers are coded as the program says",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="output codes, .npy, to write"
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path, dir_okay=False),
    help="right classes, .npy: the accuracy is printed",
)
@click.option("--baud", default=115200, show_default=True, help="speed of a serial port")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def command(
    program: Path, on: str, source: Path, output: Path | None, labels: Path | None, baud: int,
    as_json: bool,
) -> None:  # fmt: skip
    r"""Run a compiled network on inputs; every place gives the same bytes.

    \b
    Example:
      mulfree run digits.mfp --on sim --input images.npy --output classes.npy
    """
    from mulfree_firmware.build import FirmwareError
    from mulfree_sim.runner import SimulationError

    network = read_network(program)
    compiled = read_program(program) if network is None else network
    inputs = read_inputs(compiled, source)
    classes = None if labels is None else read_labels(labels, len(inputs))
    try:
        found = execute(compiled, inputs, on, baud)
    except (ProgramError, SpecError) as error:
        raise click.UsageError(str(error)) from None
    except (BoardError, LineError, SimulationError, FirmwareError) as error:
        raise click.ClickException(str(error)) from None
    if output is not None:
        content = io.BytesIO()
        np.save(content, np.ascontiguousarray(found.outputs))
        try:
            write_bytes(output, content.getvalue())
        except OSError as error:
            raise click.ClickException(f"cannot write to {output}: {error.strerror}") from None
    images = len(found.outputs)
    facts = {"on": on, "images": images, "cycles": found.cycles, "repeated": found.repeated}
    if classes is not None:
        facts["accuracy"] = accuracy(found.outputs.argmax(axis=1), classes)
    if as_json:
        click.echo(json.dumps(facts | {"outputs": found.outputs.tolist()}))
        return
    if classes is not None:
        click.echo(f"accuracy {facts['accuracy']:.2f} %")
    elif output is None:
        for row in found.outputs.tolist():
            click.echo(" ".join(map(str, row)))
    clocks = f", {found.cycles / images:.1f} clocks an image" if found.cycles else ""
    click.echo(f"{images} images on {on}{clocks}, {found.repeated} batches repeated", err=True)
