"""The soft core's firmware: built for its memory, and run in simulation of the whole system."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import serial
from numpy.typing import NDArray

from mulfree.soc import riscv
from mulfree.soc.program import Program
from mulfree.soc.riscv import RiscvSpec, beside
from mulfree.soc.top import SocSpec
from mulfree_firmware import build as builder
from mulfree_firmware.build import FirmwareError
from mulfree_firmware.client import RunResult


@dataclass(frozen=True)
class Firmware:
    """What was built.

    Members
    -------
    elf
        With symbols, for a debugger.
    words : (n,), uint32
        The core's memory from its beginning.
    """

    elf: bytes
    words: NDArray[np.uint32]


def build(
    spec: RiscvSpec,
    program: Program,
    inputs: NDArray[np.int64],
    labels: NDArray[np.int64] | None = None,
) -> Firmware:
    """Build firmware for a system; parameters and errors as of `mulfree_firmware.build`."""
    memory = 4 * spec.ram_words
    elf = builder.build("riscv", spec.soc, program, inputs, labels, memory_bytes=memory)
    return Firmware(elf, builder.memory_words(elf))


@dataclass(frozen=True)
class Report:
    """What firmware printed, understood.

    Members
    -------
    outputs : (images, outputs), int64
    classes : (images,), int64
    accuracy
        In percent as printed, two places; None without labels.
    cycles
        The engine's clocks, all batches together.
    """

    outputs: NDArray[np.int64]
    classes: NDArray[np.int64]
    accuracy: str | None
    cycles: int


def run(
    spec: RiscvSpec,
    firmware: Firmware,
    heard: Callable[[str], None] = lambda _: None,
    patience: float = 600.0,
) -> list[str]:
    """Run firmware in a simulation of the whole system; return its lines, the last one ``done``.

    Parameters
    ----------
    heard
        Called with each line when it has come.
    patience
        Seconds of silence after which it is given up.

    Raises
    ------
    FirmwareError
        It reports a failure, or falls silent.
    SimulationError
        The system cannot be simulated.
    """
    from mulfree_sim.virtual_board import VirtualBoard, on_the_line

    if len(firmware.words) > spec.ram_words:
        raise FirmwareError(
            f"firmware must have at most the core's {spec.ram_words} words, "
            f"not {len(firmware.words)}"
        )
    lines: list[str] = []
    files = {riscv.FIRMWARE: builder.hexadecimal(firmware.words)}
    with VirtualBoard(on_the_line(spec), files=files) as board:
        line = serial.serial_for_url(board.port, timeout=patience)
        try:
            line.write(b"\n")  # a virtual board stands still until somebody is there
            while not lines or lines[-1] != "done":
                content = line.read_until(b"\n")
                if not content.endswith(b"\n"):
                    raise FirmwareError(f"firmware must print within {patience} s, but is silent")
                lines.append(content.decode("ascii", "replace").strip())
                heard(lines[-1])
                if lines[-1].startswith("failed: "):
                    raise FirmwareError(f"firmware {lines[-1]}")
        except (serial.SerialException, OSError) as error:
            raise FirmwareError(f"the simulated system ended early: {error}") from None
        finally:
            line.close()
    return lines


def understand(program: Program, lines: Sequence[str]) -> Report:
    """Return what firmware's lines say.

    Raises
    ------
    FirmwareError
        They are not what it prints.
    """
    outputs, classes, shown, cycles = [], [], None, None
    for line in lines:
        if found := re.fullmatch(r"image (\d+): (\d+)(?: of \d+)? outputs ([0-9a-f]+)", line):
            if int(found[1]) != len(outputs):
                raise FirmwareError(f"image {len(outputs)} must come next, not {line!r}")
            outputs.append(list(bytes.fromhex(found[3])))
            classes.append(int(found[2]))
        elif found := re.fullmatch(r"accuracy (\d+\.\d\d) %", line):
            shown = found[1]
        elif found := re.fullmatch(r"(\d+) images, (\d+) clocks in the engine", line):
            cycles = int(found[2])
        elif line != "done":
            raise FirmwareError(f"firmware must print its results, not {line!r}")
    if cycles is None or any(len(row) != program.widths[-1] for row in outputs):
        raise FirmwareError("firmware must print every output and its clocks")
    codes = np.array(outputs, np.uint64).reshape(-1, program.widths[-1])
    return Report(program.target.act.decode(codes), np.array(classes), shown, cycles)


def run_program(soc: SocSpec, program: Program, inputs: NDArray[np.int64]) -> RunResult:
    """Run a program on inputs by firmware of its own, in a simulation of the whole system.

    The core's memory is as large as the inputs need.

    Raises
    ------
    ProgramError, SpecError, FirmwareError, SimulationError
        It cannot run there, or does not come through.
    """
    if not len(inputs):
        return RunResult(np.empty((0, program.widths[-1]), np.int64), 0, 0)
    # Code, text, outputs of a batch and the stack are far below 16 KiB.
    bytes_needed = (16 << 10) + 4 * len(program.to_words()) + inputs.size
    bytes_needed += program.batch * program.widths[-1]
    words = beside(soc).ram_words
    while 4 * words < bytes_needed:
        words *= 2
    spec = beside(soc, words)
    report = understand(program, run(spec, build(spec, program, inputs)))
    if len(report.outputs) != len(inputs):
        raise FirmwareError(f"firmware must print {len(inputs)} images, not {len(report.outputs)}")
    return RunResult(report.outputs, report.cycles, 0)
