"""The soft core's firmware: built around a program and images, and run in simulation.

The compiler is Zig's C compiler from the package ``ziglang``; start-up code, linker script and
driver are in ``c/``. What comes out is an ELF file, and the words that the core's memory is filled
with.
"""

import dataclasses
import importlib.util
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import serial
from numpy.typing import NDArray

from mulfree.files import write_text
from mulfree.soc import riscv
from mulfree.soc.program import Program
from mulfree.soc.registers import c_header
from mulfree.soc.riscv import RiscvSpec
from mulfree.soc.top import SocSpec
from mulfree_firmware.client import RunResult

#: The folder with what is written in C.
SOURCES = Path(str(resources.files("mulfree_firmware").joinpath("c")))
#: No multiplication, no compressed instructions: what the core has.
TARGET = ("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32")
FLAGS = (
    "-std=c11", "-Os", "-ffreestanding", "-nostdlib", "-fno-builtin", "-fno-sanitize=all",
    "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror",
)  # fmt: skip


class FirmwareError(RuntimeError):
    """Firmware cannot be built, or does not do what it must; the message is one sentence."""


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

    @property
    def hexadecimal(self) -> str:
        """The words as ``$readmemh`` reads them."""
        return "".join(f"{word:08x}\n" for word in self.words.tolist())


def beside(soc: SocSpec, ram_words: int | None = None) -> RiscvSpec:
    """Return a system with a core beside a board's engine.

    Raises
    ------
    SpecError
        The memory has a size that is not allowed.
    """
    soc = dataclasses.replace(soc, bridge="wishbone")
    return RiscvSpec(soc=soc) if ram_words is None else RiscvSpec(soc=soc, ram_words=ram_words)


def build(
    spec: RiscvSpec,
    program: Program,
    inputs: NDArray[np.int64],
    labels: NDArray[np.int64] | None = None,
) -> Firmware:
    """Build the firmware that classifies images and prints what it finds.

    Parameters
    ----------
    inputs : (images, inputs)
        Codes.
    labels : (images,), optional
        Right classes, 0…255; with them the firmware prints its accuracy.

    Raises
    ------
    ProgramError
        The program does not run on the system, or the inputs do not fit it.
    FirmwareError
        The compiler is not installed or refuses, or the memory is too small.
    """
    soc = spec.soc
    program.check_runs_on(soc.target, soc.program_words, soc.data_words)
    program.pack(inputs)
    if not len(inputs):
        raise FirmwareError("firmware must have an image to classify, not none")
    if labels is not None and not ((labels >= 0) & (labels <= 255)).all():
        raise FirmwareError("labels must be between 0 and 255 to be printed by firmware")
    memory_bytes = 4 * spec.ram_words
    carried = 4 * len(program.to_words()) + inputs.size + len(inputs)
    if carried >= memory_bytes:
        raise FirmwareError(
            f"program and images must be smaller than the core's memory of {memory_bytes} bytes, "
            f"not {carried} bytes"
        )
    generated = {
        "mulfree_registers.h": c_header(),
        "system.h": _guarded(
            "SYSTEM",
            [
                f"#define MULFREE_ENGINE_BASE {riscv.ENGINE_BASE:#x}U",
                f"#define MULFREE_CONSOLE_BASE {riscv.CONSOLE_BASE:#x}U",
            ],
        ),
        "network.h": _network(program, inputs, labels),
        "link.ld": f"MEMORY_BYTES = {memory_bytes};\n"
        + (SOURCES / "riscv" / "link.ld").read_text(),
    }
    with tempfile.TemporaryDirectory(prefix="mulfree-firmware-") as scratch:
        folder = Path(scratch)
        for name, text in generated.items():
            write_text(folder / name, text)
        own = [SOURCES / "riscv" / name for name in ("start.S", "main.c", "console.c", "runtime.c")]
        compile_c(
            [*own, SOURCES / "driver" / "mulfree.c"],
            folder / "firmware.elf",
            [
                *TARGET, *FLAGS, "-Wl,--gc-sections", "-ffunction-sections",
                f"-Wl,-T,{folder / 'link.ld'}",
                *(f"-I{place}" for place in
                  (folder, SOURCES / "riscv", SOURCES / "driver", SOURCES / "freestanding")),
            ],
        )  # fmt: skip
        elf = (folder / "firmware.elf").read_bytes()
    return Firmware(elf, image(elf))


def compile_c(files: Sequence[Path], output: Path, options: Sequence[str]) -> None:
    """Compile and link with Zig's C compiler.

    Raises
    ------
    FirmwareError
        It is not installed, or refuses.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise FirmwareError("Zig's C compiler must be installed: `pip install ziglang`")
    command = [sys.executable, "-m", "ziglang", "cc", *options, *map(str, files), "-o", str(output)]
    with tempfile.TemporaryDirectory(prefix="mulfree-zig-") as scratch:
        done = subprocess.run(
            command,
            cwd=scratch,
            env=os.environ | {"ZIG_LOCAL_CACHE_DIR": scratch},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        found = re.findall(r"error: .*", done.stderr) or [done.stderr.strip()[-300:]]
        raise FirmwareError(f"the C compiler must accept the firmware, but says {found[0]}")


def image(elf: bytes) -> NDArray[np.uint32]:
    """Return the memory that an ELF file describes, from address 0 on, as words.

    Raises
    ------
    FirmwareError
        It is not a little-endian 32-bit program.
    """
    if elf[:6] != b"\x7fELF\x01\x01":
        raise FirmwareError("firmware must be a little-endian 32-bit ELF file")
    (table,) = struct.unpack_from("<I", elf, 28)
    size, count = struct.unpack_from("<HH", elf, 42)
    memory = bytearray()
    for at in range(table, table + size * count, size):
        kind, offset, _, place, length, *_ = struct.unpack_from("<8I", elf, at)
        if kind == 1 and length:  # to be loaded
            memory.extend(bytes(max(0, place + length - len(memory))))
            memory[place : place + length] = elf[offset : offset + length]
    memory.extend(bytes(-len(memory) % 4))
    return np.frombuffer(bytes(memory), "<u4")


def _guarded(name: str, lines: list[str]) -> str:
    guard = f"MULFREE_{name}_H"
    return "\n".join([f"#ifndef {guard}", f"#define {guard}", "", *lines, "", "#endif", ""])


def _network(program: Program, inputs: NDArray[np.int64], labels: NDArray[np.int64] | None) -> str:
    """Return the header that holds a program and images."""
    words = program.to_words()

    def array(kind: str, name: str, values: Sequence[int]) -> list[str]:
        rows = [values[i : i + 12] for i in range(0, len(values), 12)]
        return [
            f"static const {kind} {name}[{len(values)}] = {{",
            *("    " + " ".join(f"{value:#x}U," for value in row) for row in rows),
            "};",
        ]

    return _guarded(
        "NETWORK",
        [
            "#include <stdint.h>",
            "",
            f"#define NETWORK_WORDS {len(words)}",
            f"#define NETWORK_IMAGES {len(inputs)}",
            f"#define NETWORK_INPUTS {program.widths[0]}",
            f"#define NETWORK_OUTPUTS {program.widths[-1]}",
            f"#define NETWORK_BATCH {program.batch}",
            f"#define NETWORK_LABELLED {int(labels is not None)}",
            "",
            *array("uint32_t", "network_program", words.tolist()),
            *array("uint8_t", "network_inputs", (inputs & 255).ravel().tolist()),
            *array("uint8_t", "network_labels", [0] if labels is None else labels.tolist()),
        ],
    )


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
    files = {riscv.FIRMWARE: firmware.hexadecimal}
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
