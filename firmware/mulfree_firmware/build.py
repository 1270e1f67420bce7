"""Programs for the processor beside the engine: they carry a network and images, and classify them.

The compiler is Zig's C compiler from the package ``ziglang``; driver, start-up code and linker
scripts are in ``c/``.
"""

import importlib.util
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mulfree.files import write_text
from mulfree.soc import riscv
from mulfree.soc.presets import PRESETS
from mulfree.soc.program import Program
from mulfree.soc.registers import c_header
from mulfree.soc.top import SocSpec

#: The folder with what is written in C.
SOURCES = Path(str(resources.files("mulfree_firmware").joinpath("c")))

#: Warnings that stop a build, besides those of the language.
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
FLAGS = (
    "-std=c11", "-Os", "-ffreestanding", "-nostdlib", "-fno-builtin", "-fno-sanitize=all",
    *WARNINGS,
)  # fmt: skip


class FirmwareError(RuntimeError):
    """Firmware cannot be built, or does not do what it must; the message is one sentence."""


@dataclass(frozen=True)
class Machine:
    """A processor that firmware can be built for.

    Members
    -------
    options
        For the compiler.
    folder, files
        What it has of its own in ``c/``; ``link.ld`` is there too.
    """

    options: tuple[str, ...]
    folder: str
    files: tuple[str, ...]


MACHINES = {
    # The soft core: no multiplication, no compressed instructions.
    "riscv": Machine(
        ("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32"),
        "riscv",
        ("start.S", "port.c", "runtime.c"),
    ),
    # Without MMU, which this program leaves alone, no access may be unaligned.
    "zynq-7000": Machine(
        ("-target", "arm-freestanding-eabi", "-mcpu=cortex_a9", "-mno-unaligned-access"),
        "zynq",
        ("start.S", "port.c"),
    ),
    "zynq-ultrascale": Machine(
        (
            "-target", "aarch64-freestanding-none", "-mcpu=cortex_a53", "-mgeneral-regs-only",
            "-mno-unaligned-access",
        ),
        "zynq",
        ("start.S", "port.c"),
    ),
}  # fmt: skip


#: Vivado's name of a processing system -> the machine.
ZYNQ = {"processing_system7": "zynq-7000", "zynq_ultra_ps_e": "zynq-ultrascale"}


def machine_of(board: str) -> tuple[str, int]:
    """Return the processor beside a board's engine, its own or a soft core, and where it sees it.

    Raises
    ------
    FirmwareError
        There is no start-up code for the processor.
    """
    zynq = getattr(PRESETS.boards[board], "zynq", None)
    if zynq is None:
        return "riscv", riscv.ENGINE_BASE
    if zynq.processing_system not in ZYNQ:
        raise FirmwareError(
            f"processor must be one of {', '.join(ZYNQ)}, not {zynq.processing_system}"
        )
    return ZYNQ[zynq.processing_system], zynq.base


def build(
    machine: str,
    soc: SocSpec,
    program: Program,
    inputs: NDArray[np.int64],
    labels: NDArray[np.int64] | None = None,
    *,
    engine_base: int = riscv.ENGINE_BASE,
    memory_bytes: int = 1 << 20,
) -> bytes:
    """Build the firmware that classifies images and prints what it finds; return the ELF file.

    Parameters
    ----------
    machine
        One of `MACHINES`.
    soc
        The engine beside it.
    inputs : (images, inputs)
        Codes.
    labels : (images,), optional
        Right classes, 0…255; with them the firmware prints its accuracy.
    engine_base
        Address of the engine.
    memory_bytes
        The soft core's memory.

    Raises
    ------
    ProgramError
        The program does not run on the engine, or the inputs do not fit it.
    FirmwareError
        The compiler is not installed or refuses, or the memory is too small.
    """
    program.check_runs_on(soc.target, soc.program_words, soc.data_words)
    program.pack(inputs)
    if not len(inputs):
        raise FirmwareError("firmware must have an image to classify, not none")
    if labels is not None and not ((labels >= 0) & (labels <= 255)).all():
        raise FirmwareError("labels must be between 0 and 255 to be printed by firmware")
    carried = 4 * len(program.to_words()) + inputs.size
    if carried >= memory_bytes:
        raise FirmwareError(
            f"program and images must be smaller than the memory of {memory_bytes} bytes, "
            f"not {carried} bytes"
        )
    kind = MACHINES[machine]
    own = SOURCES / kind.folder
    with tempfile.TemporaryDirectory(prefix="mulfree-firmware-") as scratch:
        folder = Path(scratch)
        for name, text in headers(program, inputs, labels, engine_base).items():
            write_text(folder / name, text)
        script = f"MEMORY_BYTES = {memory_bytes};\n{(own / 'link.ld').read_text()}"
        write_text(folder / "link.ld", script)
        places = folder, *(SOURCES / name for name in ("classify", "driver", "freestanding"))
        compile_c(
            [
                *(own / name for name in kind.files),
                *(SOURCES / "classify" / name for name in ("main.c", "console.c")),
                SOURCES / "driver" / "mulfree.c",
            ],
            folder / "firmware.elf",
            [
                *kind.options,
                *FLAGS,
                f"-Wl,-T,{folder / 'link.ld'}",
                *(f"-I{place}" for place in places),
            ],
        )
        return (folder / "firmware.elf").read_bytes()


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
        found = re.findall(r"error: (.*)", done.stderr) or [done.stderr.strip()[-300:]]
        raise FirmwareError(f"firmware cannot be compiled: {found[0]}")


def memory_words(elf: bytes) -> NDArray[np.uint32]:
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


def hexadecimal(words: NDArray[np.uint32]) -> str:
    """Return words as ``$readmemh`` reads them."""
    return "".join(f"{word:08x}\n" for word in words.tolist())


def headers(
    program: Program,
    inputs: NDArray[np.int64],
    labels: NDArray[np.int64] | None,
    engine_base: int,
) -> dict[str, str]:
    """Return what the C sources include and is not written by hand, by name."""
    addresses = {"ENGINE": engine_base, "SOFT_CONSOLE": riscv.CONSOLE_BASE}
    lines = [f"#define MULFREE_{name}_BASE {base:#x}U" for name, base in addresses.items()]
    return {
        "mulfree_registers.h": c_header(),
        "system.h": _guarded("SYSTEM", lines),
        "network.h": _network(program, inputs, labels),
    }


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
