"""Whether the array is in the chip: its cells in the routed netlist.

A synthesis removes what cannot be observed; a mistake in the design could so leave a board that
answers but has no engine. Every build is checked. ``python -m mulfree_boards.presence BOARD
[FOLDER]`` checks a build again.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mulfree.soc.networksoc import NetworkSocSpec
from mulfree.soc.system import SystemSpec
from mulfree.spec import Spec

#: Where the array is in the design, and where a network engine's is.
ARRAY, NETWORK_ARRAY = "soc.sequencer.engine.array.", "soc.network.core."
#: What is counted besides where a cell is a LUT and a flip-flop.
FLIP_FLOP = "ICESTORM_LC with its flip-flop"


def array_of(spec: SystemSpec, soft_core: bool = False) -> str:
    """Return where a system's array is in the design; a soft core is around the system."""
    array = NETWORK_ARRAY if isinstance(spec, NetworkSocSpec) else ARRAY
    return f"soc.{array}" if soft_core else array


def cells_under(document: dict[str, Any], prefix: str = ARRAY) -> Counter[str]:
    """Return the cells, by type, that drive a net under a name, or are named so themselves.

    Parameters
    ----------
    document
        A netlist in Yosys' JSON, synthesised or routed.
    """
    module = document["modules"]["top"]
    bits: set[Any] = set()
    for name, net in module["netnames"].items():
        # Clock and reset come from outside.
        if name.startswith(prefix) and name.rpartition(".")[2] not in ("clk", "rst"):
            bits.update(bit for bit in net["bits"] if not isinstance(bit, str))
    found: Counter[str] = Counter()
    for name, cell in module["cells"].items():
        ports = cell.get("port_directions", {})
        driven = (b for p, way in ports.items() if way == "output" for b in cell["connections"][p])
        if name.startswith(prefix) or any(bit in bits for bit in driven):
            found[cell["type"]] += 1
            if _has_flip_flop(cell):
                found[FLIP_FLOP] += 1
    return found


def _has_flip_flop(cell: dict[str, Any]) -> bool:
    """Whether a logic cell of nextpnr for iCE40 uses its flip-flop."""
    used = cell.get("parameters", {}).get("DFF_ENABLE", "0")
    return cell["type"] == "ICESTORM_LC" and bool(int(str(used), 2))


def total(found: Mapping[str, int]) -> int:
    """Return how many cells there are; a flip-flop inside another cell is none."""
    return sum(number for kind, number in found.items() if kind != FLIP_FLOP)


def least(spec: SystemSpec) -> int:
    """Return the cells that an array cannot do without: one a product, one an accumulator's bit.

    A network engine's accumulators are block RAM.

    In a chip with distributed RAM four lanes and four bits can share a cell.
    """
    core = spec.core
    products = core.outputs * core.lanes // 4
    if isinstance(spec, NetworkSocSpec):
        return products
    return max(products, core.outputs * spec.acc_bits // 4)


def main() -> int:
    """Check a build that is in a folder; return the exit code."""
    if not 2 <= len(sys.argv) <= 3:
        print("usage: python -m mulfree_boards.presence BOARD [FOLDER]", file=sys.stderr)
        return 2
    board = sys.argv[1]
    folder = Path(sys.argv[2]) if len(sys.argv) == 3 else Path("build") / board
    try:
        facts = json.loads((folder / f"mulfree_{board}.json").read_text())
        routed = json.loads((folder / "routed.json").read_text())
    except (OSError, ValueError) as error:
        print(f"no build of {board} in {folder}: {error}", file=sys.stderr)
        return 2
    spec = Spec.from_dict(facts["spec"])
    assert isinstance(spec, SystemSpec)
    found = cells_under(routed, array_of(spec, bool(facts["soft_core"])))
    for kind, number in sorted(found.items()):
        print(f"{number:8,} {kind}")
    missing = total(found) < least(spec)
    print(f"the array is {'missing' if missing else 'there'}: {total(found):,} cells")
    return int(missing)


if __name__ == "__main__":
    sys.exit(main())
