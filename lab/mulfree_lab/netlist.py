"""A mapped netlist as Yosys writes it in JSON: its cells, and what drives what."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

#: A net bit: a number, or a constant as the text "0", "1", "x" or "z".
Bit = int | str


class NetlistError(ValueError):
    """The netlist cannot be measured; the message is one sentence."""


@dataclass(frozen=True)
class Cell:
    """One cell: its type and the net bits on each port, least significant first."""

    name: str
    type: str
    inputs: dict[str, list[Bit]]
    outputs: dict[str, list[Bit]]


@dataclass(frozen=True)
class Netlist:
    """The cells of one flattened module."""

    name: str
    cells: list[Cell]
    inputs: dict[str, list[Bit]] = field(default_factory=dict)
    outputs: dict[str, list[Bit]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Netlist":
        """Read the only module that is not a library cell.

        Raises
        ------
        NetlistError
            The design is not one flat module.
        """
        tops = {
            name: module
            for name, module in document["modules"].items()
            if not any(
                int(module["attributes"].get(mark, "0"), 2) for mark in ("blackbox", "whitebox")
            )
        }
        if len(tops) != 1:
            raise NetlistError(f"netlist must be one flat module, not {len(tops)}")
        [(name, module)] = tops.items()
        cells = [
            Cell(
                label,
                entry["type"],
                _ports(entry, "input"),
                _ports(entry, "output"),
            )
            for label, entry in module["cells"].items()
        ]
        ports = module["ports"].items()
        return cls(
            name,
            cells,
            {label: port["bits"] for label, port in ports if port["direction"] == "input"},
            {label: port["bits"] for label, port in ports if port["direction"] == "output"},
        )

    def census(self) -> Counter[str]:
        """Return the number of cells of each type."""
        return Counter(cell.type for cell in self.cells)

    def drivers(self) -> dict[Bit, Cell]:
        """Return the cell that drives each net bit."""
        return {bit: cell for cell in self.cells for bits in cell.outputs.values() for bit in bits}


def _ports(entry: dict[str, Any], direction: str) -> dict[str, list[Bit]]:
    directions = entry.get("port_directions", {})
    return {
        port: bits for port, bits in entry["connections"].items() if directions[port] == direction
    }


#: What an output bit waits for: (cell, output port, bit) -> (input net bit, levels added) each.
Arcs = Callable[[Cell, str, int], Iterator[tuple[Bit, int]]]


def longest_path(netlist: Netlist, arcs: Arcs) -> int:
    """Return the largest number of levels that any path from a start to an end collects.

    Paths start at inputs, and at outputs for which `arcs` yields nothing (registers); they end
    anywhere.

    Raises
    ------
    NetlistError
        There is a combinational loop.
    """
    waits: dict[Bit, dict[Bit, int]] = {}
    feeds: dict[Bit, list[Bit]] = defaultdict(list)
    for cell in netlist.cells:
        for port, bits in cell.outputs.items():
            for index, out in enumerate(bits):
                sources: dict[Bit, int] = {}
                for bit, levels in arcs(cell, port, index):
                    if isinstance(bit, int):
                        sources[bit] = max(levels, sources.get(bit, 0))
                waits[out] = sources
                for bit in sources:
                    feeds[bit].append(out)
    missing = {out: sum(bit in waits for bit in sources) for out, sources in waits.items()}
    ready = [out for out, count in missing.items() if count == 0]
    level: dict[Bit, int] = {}
    while ready:
        out = ready.pop()
        level[out] = max((level.get(bit, 0) + n for bit, n in waits[out].items()), default=0)
        for user in feeds[out]:
            missing[user] -= 1
            if missing[user] == 0:
                ready.append(user)
    if len(level) < len(waits):
        raise NetlistError(f"netlist of {netlist.name} must have no combinational loop")
    return max(level.values(), default=0)
