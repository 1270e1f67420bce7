"""OpenSTA on a mapped netlist: the longest path, and a power to compare our energy with.

OpenSTA takes no activity per pin from us: it gets the mean activity of all nets, so that its power
checks the order of magnitude only.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mulfree_lab.activity import Activity, Timed
from mulfree_lab.cells import CellTechnology
from mulfree_lab.netlist import Bit, Netlist


class TimingError(RuntimeError):
    """OpenSTA could not be run; the message says why."""


@dataclass(frozen=True)
class Report:
    """What OpenSTA says.

    Members
    -------
    arrival
        The latest arrival at a register or output, in ns.
    power
        Internal, switching and leakage power, in mW; 0 where no activity was given.
    """

    arrival: float
    power: float


def analyse(
    netlist: Netlist, technology: CellTechnology, wire: float, activity: float, period: float
) -> Report:
    """Run OpenSTA, every net with its wire capacitance in pF for each pin it drives.

    Parameters
    ----------
    activity
        Changes of a net in a clock.
    period
        Of the clock, in ns.

    Raises
    ------
    TimingError
        OpenSTA is missing or failed.
    """
    tool = shutil.which("sta")
    if tool is None:
        raise TimingError("timing must have OpenSTA: apt-get install opensta")
    with tempfile.TemporaryDirectory(prefix="mulfree-") as folder:
        here = Path(folder)
        (here / "cells.lib").write_text(technology.text)
        (here / "netlist.v").write_text(verilog(netlist))
        loads = [
            f"set_load -pin_load {pins * wire:.4f} [get_ports {{{name}}}]"
            for name, pins in _outputs(netlist)
        ]
        script = [
            "read_liberty cells.lib", "read_verilog netlist.v", "link_design netlist",
            f"create_clock -name clk -period {period:.3f} "
            + ("[get_ports clk]" if "clk" in netlist.inputs else ""),
            "set_input_delay 0 -clock clk [all_inputs]",
            "set_output_delay 0 -clock clk [all_outputs]",
            *loads,
            "report_checks -path_delay max -unconstrained -digits 4",
            f"set_power_activity -global -activity {activity:.4f} -duty 0.5",
            "report_power -digits 6",
            "exit",
        ]  # fmt: skip
        (here / "run.tcl").write_text("\n".join(script) + "\n")
        done = subprocess.run(
            [tool, "-no_splash", "-exit", "run.tcl"], cwd=here, capture_output=True, text=True
        )
    said = done.stdout + done.stderr
    arrival = re.search(r"([\d.]+)\s+data arrival time", said)
    power = re.search(r"^Total\s+(?:[\d.e+-]+\s+){3}([\d.e+-]+)", said, re.M)
    if arrival is None or power is None:
        wrong = next((line for line in said.splitlines() if "rror" in line), said[-200:])
        raise TimingError(f"OpenSTA failed: {wrong.strip()}")
    return Report(float(arrival[1]), 1e3 * float(power[1]))


def mean_activity(timed: Timed, activity: Activity) -> float:
    """Return the changes of a data net in a clock, the mean over all nets with a load."""
    nets = [bit for bit in timed.load if isinstance(bit, int) and bit not in timed.clocks]
    changes = sum(activity.rises[bit] + activity.falls[bit] for bit in nets)
    return changes / (len(nets) or 1) / activity.clocks


def _outputs(netlist: Netlist) -> list[tuple[str, int]]:
    return [
        (f"{name}_{place}", 1)
        for name, bits in netlist.outputs.items()
        for place in range(len(bits))
    ]


def verilog(netlist: Netlist) -> str:
    """Return a netlist as structural Verilog: a port a bit, no expressions, no constants."""
    inputs = [
        (name if name == "clk" else f"{name}_{i}", bit)
        for name, bits in netlist.inputs.items()
        for i, bit in enumerate(bits)
    ]
    outputs = [
        (f"{name}_{i}", bit) for name, bits in netlist.outputs.items() for i, bit in enumerate(bits)
    ]
    names: dict[Bit, str] = {bit: name for name, bit in inputs}
    lines = [f"module netlist ({', '.join(name for name, _ in [*inputs, *outputs])});"]
    lines += [f"  input {name};" for name, _ in inputs]
    lines += [f"  output {name};" for name, _ in outputs]
    cells = []
    for place, cell in enumerate(netlist.cells):
        ports = []
        for pin, bits in (cell.inputs | cell.outputs).items():
            for bit in bits:
                ports.append(f".{pin}({names.setdefault(bit, _name(bit))})")
        cells.append(f"  {cell.type} u{place} ({', '.join(ports)});")
    wires = sorted(set(names.values()) - {name for name, _ in inputs})
    lines += [f"  wire {name};" for name in wires if name.startswith("n_")]
    lines += cells
    lines += [f"  assign {name} = {names[bit]};" for name, bit in outputs if bit in names]
    return "\n".join([*lines, "endmodule"]) + "\n"


def _name(bit: Bit) -> str:
    return f"n_{bit}" if isinstance(bit, int) else f"1'b{bit if bit in '01' else '0'}"
