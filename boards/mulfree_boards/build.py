"""Builds: estimate, refuse or synthesise, place, route, pack, check; kept by content.

What a build depends on is hashed: the files that the tools read, their commands and their versions.
A build that was made before is copied from the user's cache folder.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mulfree import tools
from mulfree.files import write_bytes, write_text
from mulfree.soc.system import SystemSpec
from mulfree.spec import SpecError
from mulfree_boards import flow, presence
from mulfree_boards.board import Board
from mulfree_boards.estimate import Estimate, estimate, with_soft_core
from mulfree_boards.flow import FLOWS, BuildError
from mulfree_boards.pll import Pll, nearest
from mulfree_boards.softcore import SoftCore
from mulfree_boards.top import BoardTop

#: Files that a build leaves besides the bitstream and its facts.
KEPT = ("synthesis.log", "route.log", "netlist.v", "routed.json")
#: What the tools made of a build, kept with it; what was asked for is told when it is delivered.
FOUND = "found.json"


@dataclass(frozen=True)
class Plan:
    """What would be built: a system on a board at a clock, perhaps with a soft core beside it.

    `seed` is where placing begins: another one is another result.
    """

    board: Board
    spec: SystemSpec
    clock_hz: float
    pll: Pll | None
    soft: SoftCore | None = None
    seed: int = 1

    @property
    def name(self) -> str:
        """Stem of the files' names."""
        return f"mulfree_{self.board.name}"

    @property
    def bitstream(self) -> str:
        """Name of the bitstream's file."""
        return f"{self.name}.{FLOWS[self.board.device.technology].bitstream}"

    @property
    def estimate(self) -> Estimate:
        """What the system is expected to take."""
        technology = self.board.device.technology
        expected = estimate(self.spec, technology)
        if self.soft is None:
            return expected
        return with_soft_core(expected, self.soft.spec.ram_words, technology)


def clock(board: Board, mhz: float | None) -> tuple[float, Pll | None]:
    """Return the system's clock in Hz, and the PLL that makes it where one is needed.

    Raises
    ------
    SpecError
        No PLL makes it.
    """
    hz = board.clock_hz if mhz is None else round(mhz * 1e6)
    if not 1_000_000 <= hz <= 500_000_000:
        raise SpecError(f"freq must be between 1 and 500 MHz, not {hz / 1e6:g}")
    if board.zynq or hz == board.oscillator_hz:
        return hz, None
    pll = nearest(board.device.technology, board.oscillator_hz, hz)
    return pll.hz, pll


def check_fits(plan: Plan) -> None:
    """Refuse what cannot fit.

    Raises
    ------
    BuildError
        The estimate, less its error, is more than the chip has; the message says by how much.
    """
    expected, device = plan.estimate, plan.board.device
    rows = (
        ("LUTs", expected.luts, device.luts),
        ("flip-flops", expected.ff, device.ff),
        ("block RAMs", expected.ram, device.ram),
    )
    over = [
        f"about {least:,} {what} for {there:,} ({least / there - 1:.0%} too many)"
        for what, least, there in rows
        if least * (1 - (0 if what == "block RAMs" else expected.error)) > there
    ]
    if over:
        raise BuildError(
            f"the system cannot fit the {device.name} of {plan.board.name}: it would take "
            f"{' and '.join(over)}; ask for fewer --outputs, --lanes or --acc-slots, or smaller "
            "memories"
        )


def steps(plan: Plan, platform: Any) -> list[flow.Step]:
    """Return the tools' runs in order."""
    way = FLOWS[plan.board.device.technology]
    return [flow.SYNTHESIS, *way.steps(platform, plan.clock_hz / 1e6, plan.seed)]


def design(plan: Plan) -> dict[str, str]:
    """Return the files that the tools read."""
    way = FLOWS[plan.board.device.technology]
    platform = plan.board.load_platform()
    whole = plan.spec if plan.soft is None else plan.soft.spec
    others = {} if plan.soft is None else plan.soft.files
    # Our scripts run the tools; debugging Verilog would only need another Yosys.
    made = platform.prepare(
        BoardTop(plan.board, whole, plan.pll), "top", emit_src=False, debug_verilog=False
    )
    pins = made.files[f"top.{way.constraints}"]
    return {
        "top.il": _text(made.files["top.il"]),
        f"top.{way.constraints}": _text(pins),
        "synthesis.ys": flow.script(way, (name for name in others if name.endswith(".v"))),
        **others,
    }


def _text(content: str | bytes) -> str:
    return content.decode() if isinstance(content, bytes) else content


def key(files: dict[str, str], commands: list[flow.Step]) -> str:
    """Return a hash of everything that a build depends on."""
    packages = sorted({step.package for step in commands})
    made_from = [files, [step.command for step in commands], _versions(packages)]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]


def _versions(packages: Iterable[str]) -> dict[str, str]:
    return {package: tools.version(package) for package in sorted(packages)}


def cache_directory() -> Path:
    """Return the folder that keeps builds."""
    return tools.cache_directory() / "boards"


def build(
    plan: Plan,
    begin: Callable[[str], None] = lambda _: None,
    tick: Callable[[], None] = lambda: None,
    fresh: bool = False,
) -> Path:
    """Build, or find the build; return its folder.

    The folder has the bitstream, what it takes, the tools' logs and the netlists. It appears when
    all of it is there.

    Parameters
    ----------
    begin
        Told what begins, before each tool.
    tick
        Called several times a second while a tool runs.
    fresh
        Do not look for a kept build.

    Raises
    ------
    BuildError
        A tool or package is missing, the system does not fit, or a tool fails.
    """
    check_fits(plan)
    try:
        platform = plan.board.load_platform()
    except ModuleNotFoundError:
        raise BuildError(
            "amaranth-boards is not installed; run `pip install 'mulfree[boards]'`"
        ) from None
    commands = steps(plan, platform)
    if tool := flow.missing(commands):
        raise BuildError(f"{tool} is not installed; run `pip install 'mulfree[boards]'`")
    begin("generating")
    files = design(plan)
    folder = cache_directory() / key(files, commands)
    if folder.exists() and not fresh:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix="building-"))
    try:
        started = time.monotonic()
        for name, text in files.items():
            (work / name).write_text(text)
        for step in commands:
            begin(step.title)
            flow.run(step, work, tick)
        found = _found(plan, work) | {
            "versions": _versions(step.package for step in commands),
            "seconds": round(time.monotonic() - started, 1),
        }
        ready = work / "ready"
        ready.mkdir()
        way = FLOWS[plan.board.device.technology]
        (work / f"top.{way.bitstream}").rename(ready / plan.bitstream)
        for name in KEPT:
            (work / name).rename(ready / name)
        (ready / FOUND).write_text(json.dumps(found))
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            ready.rename(folder)
        except OSError:  # another process finished the same build first
            if not folder.exists():
                raise
        return folder
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _found(plan: Plan, work: Path) -> dict[str, Any]:
    """Return what the tools made of a plan, after looking whether the array is in it.

    Raises
    ------
    BuildError
        The optimiser has removed the array.
    """
    routed = flow.report(plan.board, FLOWS[plan.board.device.technology], work)
    there = presence.cells_under(
        json.loads((work / "routed.json").read_text()),
        presence.array_of(plan.spec, plan.soft is not None),
    )
    if presence.total(there) < presence.least(plan.spec):
        raise BuildError(
            f"only {presence.total(there)} cells of the array are in the routed design: it was "
            "optimised away, which is a mistake in mulfree"
        )
    return {
        "used": routed.used,
        "array_cells": dict(sorted(there.items())),
        "fmax_mhz": routed.fmax_mhz,
        "meets_timing": routed.fmax_mhz >= plan.clock_hz / 1e6,
    }


def _planned(plan: Plan) -> dict[str, Any]:
    """Return what was asked for."""
    device = plan.board.device
    return {
        "board": plan.board.name,
        "device": device.name,
        "bitstream": plan.bitstream,
        "available": {"lut": device.luts, "ff": device.ff, "ram": device.ram, "dsp": device.dsp},
        "estimated": {"lut": plan.estimate.luts, "ff": plan.estimate.ff, "ram": plan.estimate.ram},
        "asked_mhz": round(plan.clock_hz / 1e6, 6),
        "seed": plan.seed,
        "spec": plan.spec.to_dict(),
        "soft_core": None if plan.soft is None else {"ram_words": plan.soft.spec.ram_words},
    }


def deliver(plan: Plan, built: Path, directory: Path) -> dict[str, Any]:
    """Copy a build into the user's folder and return its facts; the bitstream comes last.

    A design that misses its timing leaves its logs but no bitstream, not even an older one.
    """
    facts = _planned(plan) | json.loads((built / FOUND).read_text())
    bitstream = directory / plan.bitstream
    if not facts["meets_timing"]:
        bitstream.unlink(missing_ok=True)
    for name in KEPT:
        write_bytes(directory / name, (built / name).read_bytes())
    write_text(directory / f"{plan.name}.json", json.dumps(facts, indent=2) + "\n")
    if facts["meets_timing"]:
        write_bytes(bitstream, (built / plan.bitstream).read_bytes())
    os.utime(built)
    return facts
