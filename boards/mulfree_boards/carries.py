"""Ends of ECP5's carry chains, in ``top.json`` as Yosys writes it for nextpnr.

nextpnr puts a slice in front of a chain whose carry input is connected, be it to a constant, and
one behind a chain whose carry output has a wire, be it read or not; and Yosys connects each port.
In a large engine those slices are a tenth of all. The maps of ``ccu2c.v`` begin a chain with a half
slice that does not look at its carry input; here it is disconnected, as are outputs nobody reads.
"""

import json
from pathlib import Path
from typing import Any

#: What nextpnr takes as no connection.
NOTHING = ["x"]


def end(cells: dict[str, Any]) -> None:
    """Disconnect what nobody looks at of the carry chains among cells, in place."""
    chains = [cell for cell in cells.values() if cell["type"] == "CCU2C"]
    read = {
        bit
        for cell in cells.values()
        for port, bits in cell["connections"].items()
        if cell["port_directions"][port] != "output"
        for bit in bits
    }
    for cell in chains:
        wires = cell["connections"]
        if not read.intersection(wires["COUT"]):
            wires["COUT"] = NOTHING
        # Where inputs C and D are 1, the upper four bits of INIT0 say when a carry propagates.
        never = cell["parameters"]["INIT0"][:4] == "0000" and wires["C0"] == wires["D0"] == ["1"]
        if never and not read.intersection(wires["S0"]):
            wires["CIN"] = NOTHING


def main() -> None:
    """Rewrite ``top.json`` in this folder."""
    path = Path("top.json")
    design = json.loads(path.read_text())
    for module in design["modules"].values():
        end(module["cells"])
    path.write_text(json.dumps(design))


if __name__ == "__main__":
    main()
