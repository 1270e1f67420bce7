"""openXC7: a Zynq-7000's bitstream without Vivado, where its tools are found.

They come from no package index: nextpnr-xilinx, fasm2frames and xc7frames2bit are looked for on
PATH, Project X-Ray's database in the folder that PRJXRAY_DB_DIR names, and the chip's database of
nextpnr in the folder that CHIPDB names, as openXC7's own scripts do.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from mulfree.files import write_bytes
from mulfree_boards import flow, presence
from mulfree_boards.board import Board
from mulfree_boards.build import Plan
from mulfree_boards.flow import BuildError, Step
from mulfree_boards.ps7 import Ps7Top

FAMILY = "zynq7"
TOOLS = ("nextpnr-xilinx", "fasm2frames", "xc7frames2bit")
KEPT = ("synthesis.log", "route.log")
SYNTHESIS = f"""\
read_rtlil top.il
proc
{flow.AS_SAID}\
synth_xilinx -family xc7 -flatten -nodsp -top top
write_json top.json
"""


def missing(board: Board) -> str | None:
    """Return what the flow wants for a board and is not there; None where all of it is."""
    assert board.zynq is not None
    part = board.zynq.part
    if board.device.technology != "xc7":
        return f"it does not know the {board.device.name}"
    for tool in TOOLS:
        if shutil.which(tool) is None:
            return f"{tool} is not on PATH"
    for variable, file in (("PRJXRAY_DB_DIR", _device(part)), ("CHIPDB", _chip(part))):
        folder = os.environ.get(variable)
        if not folder:
            return f"{variable} is not set"
        if not (Path(folder) / file).exists():
            return f"{variable} has no {file}"
    return None


def _device(part: str) -> Path:
    return Path(FAMILY) / part / "part.yaml"


def _chip(part: str) -> Path:
    """A chip and its package, without the speed grade."""
    return Path(f"{part.rpartition('-')[0]}.bin")


def steps(part: str, mhz: float, seed: int) -> list[Step]:
    """Return the tools' runs in order."""
    database = Path(os.environ["PRJXRAY_DB_DIR"])
    route, frames, pack = (str(shutil.which(tool)) for tool in TOOLS)
    return [
        flow.SYNTHESIS,
        Step("placing and routing",
             (route, "--chipdb", str(Path(os.environ["CHIPDB"]) / _chip(part)), "--json",
              "top.json", "--freq", f"{mhz:g}", "--seed", str(seed), "--timing-allow-fail",
              "--fasm", "top.fasm"),
             "nextpnr-xilinx", "route.log"),
        Step("making frames",
             (frames, "--part", part, "--db-root", str(database / FAMILY), "top.fasm",
              "top.frames"), "prjxray", "frames.log"),
        Step("packing",
             (pack, "--part_file", str(database / _device(part)), "--part_name", part,
              "--frm_file", "top.frames", "--output_file", "top.bit"), "prjxray", "pack.log"),
    ]  # fmt: skip


def build(
    plan: Plan,
    directory: Path,
    begin: Callable[[str], None] = lambda _: None,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Make a bitstream; return its file, None where the timing is missed, and the clock.

    Raises
    ------
    BuildError
        A tool fails, or the array is not in the netlist.
    """
    zynq = plan.board.zynq
    assert zynq is not None
    mhz = plan.clock_hz / 1e6
    with tempfile.TemporaryDirectory(prefix="mulfree-") as scratch:
        work = Path(scratch)
        (work / "top.il").write_text(rtlil.convert(Ps7Top(plan.spec), ports=[]))
        (work / "synthesis.ys").write_text(SYNTHESIS)
        for step in steps(zynq.part, mhz, plan.seed):
            begin(step.title)
            flow.run(step, work, tick)
        there = presence.cells_under(json.loads((work / "top.json").read_text()))
        if presence.total(there) < presence.least(plan.spec):
            raise BuildError("the array was optimised away, which is a mistake in mulfree")
        reached = re.findall(r"Max frequency for clock [^:]*: ([\d.]+) MHz",
                             (work / "route.log").read_text())  # fmt: skip
        if not reached:
            raise BuildError("nextpnr-xilinx did not say how fast its result is")
        for name in KEPT:
            write_bytes(directory / name, (work / name).read_bytes())
        bitstream = directory / f"{plan.name}.bit"
        fmax = float(reached[-1])
        if fmax < mhz:
            bitstream.unlink(missing_ok=True)
        else:
            write_bytes(bitstream, (work / "top.bit").read_bytes())
    return {"bitstream": str(bitstream) if fmax >= mhz else None, "fmax_mhz": fmax}
