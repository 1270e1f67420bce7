"""FPGA families behind one interface: how each is synthesised and how its cells are counted.

A LUT equivalent is one look-up-table site that nothing else can use. Everything that takes such a
site is counted, and a cell that no rule names is an error: nothing is ever silently free.

ecp5
    LUT4 = 1; CCU2C = 2, two bits of carry chain in two LUT sites; TRELLIS_DPR16X4 = 6, four LUTs of
    data and two of write control.
ice40
    SB_LUT4 = 1; an SB_CARRY is free where a LUT on its operands and carry shares its cell, else 1.
xc7, xcup
    LUT1…LUT6 and INV = 1; CARRY4 and CARRY8 = 0, but a select input that no LUT drives takes a LUT
    to pass through; distributed RAM as many LUTs as it fills (RAM32M, RAM64M = 4); SRL = 1.
gowin
    LUT1…LUT4, INV and ALU = 1; RAM16SDP* = 6, four LUTs of data and two of write control.

Wide multiplexers (PFUMX, L6MUX21, MUXF*, MUX2_LUT*) stand beside the LUTs and are reported apart.
Block RAM is counted in the family's smallest block (RAMB36 = 2).

Logic depth is the longest path between registers, block RAMs and ports, in LUT levels: a LUT, a
read of a distributed RAM and the entry into a carry chain count one each, so that an adder of any
width is one level; steps along a carry chain and wide multiplexers count none.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from mulfree_lab.netlist import Bit, Cell, Netlist, NetlistError, longest_path

#: Part of every cache key: raise it when a counting rule or the meaning of depth changes.
COUNTING = 1


@dataclass(frozen=True)
class Rule:
    """What one cell type is.

    Parameters
    ----------
    resource
        ``lut``, ``carry``, ``lutram``, ``wide``, ``ff``, ``ram``, ``dsp`` or ``none``.
    units
        LUT sites for the first three, else the number of that resource.
    levels
        Logic levels from an input to an output.
    reads
        For a memory with a combinational read: output port -> its address port. None: from
        every input to every output. Empty: none, the cell is clocked.
    chain
        Inputs that come along the carry chain and add no level.
    """

    resource: str
    units: int = 1
    levels: int = 0
    reads: dict[str, str] | None = None
    chain: tuple[str, ...] = ()


LUT = Rule("lut", levels=1)
WIDE = Rule("wide")
CLOCKED: dict[str, str] = {}
FF = Rule("ff", reads=CLOCKED)
RAM = Rule("ram", reads=CLOCKED)
DSP = Rule("dsp", reads=CLOCKED)
NONE = Rule("none")


def _lutram(units: int, **reads: str) -> Rule:
    return Rule("lutram", units, 1, reads)


_ABCD = {f"DO{port}": f"ADDR{port}" for port in "ABCDEFGH"}

#: Cell type, as a regular expression that matches it whole -> rule.
ECP5 = {
    "LUT4|LUT2|INV": LUT,
    "CCU2C": Rule("carry", 2, 1, chain=("CIN",)),
    "TRELLIS_DPR16X4": _lutram(6, DO="RAD"),
    "PFUMX|L6MUX21": WIDE,
    "TRELLIS_FF": FF,
    "DP16KD|PDPW16KD": RAM,
    "MULT18X18D|ALU54B": DSP,
    "VLO|VHI|GSR": NONE,
}
ICE40 = {
    "SB_LUT4": LUT,
    "SB_CARRY": Rule("carry", 0),
    "SB_DFF[A-Z]*": FF,
    "SB_RAM40_4K(N[RW]|NRNW)?": RAM,
    "SB_SPRAM256KA": Rule("ram", 64, reads=CLOCKED),
    "SB_MAC16": DSP,
}
XILINX = {
    "LUT[1-6]|INV": LUT,
    "CARRY[48]": Rule("carry", 0),
    "RAM32M|RAM64M": _lutram(4, **_ABCD),
    "RAM32M16|RAM64M8": _lutram(8, **_ABCD),
    "RAM(32|64)X1D": _lutram(2, DPO="DPRA", SPO="A"),
    "RAM128X1D": _lutram(4, DPO="DPRA", SPO="A"),
    "RAM256X1D": _lutram(8, DPO="DPRA", SPO="A"),
    "RAM(32|64)X1S": _lutram(1, O="A"),
    "RAM128X1S": _lutram(2, O="A"),
    "RAM256X1S": _lutram(4, O="A"),
    "RAM512X1S": _lutram(8, O="A"),
    "SRL16E|SRLC16E|SRLC32E": _lutram(1, Q="A"),
    "MUXF[789]": WIDE,
    "FD[RSCP]E(_1)?": FF,
    "RAMB18E[12]": RAM,
    "RAMB36E[12]": Rule("ram", 2, reads=CLOCKED),
    "URAM288": Rule("ram", 16, reads=CLOCKED),
    "DSP48E[12]": DSP,
    "BUFG|IBUF|OBUF|VCC|GND": NONE,
}
GOWIN = {
    "LUT[1-4]|INV": LUT,
    "ALU": Rule("carry", 1, 1, chain=("CIN",)),
    "RAM16SDP[124]": _lutram(6, DO="RAD"),
    "MUX2_LUT[5678]": WIDE,
    "DFF[A-Z]*": FF,
    "SDP|SDPB|SDPX9|SDPX9B|DPB?|DPX9B?|SPX?9?|pROM(X9)?": RAM,
    "MULT(9X9|18X18|36X36)|MULTALU\\w+|MULTADDALU\\w+|ALU54D|PADD\\w+": DSP,
    "VCC|GND|GSR|IBUF|OBUF": NONE,
}


@dataclass(frozen=True)
class Recipe:
    """One way to synthesise: a Yosys script, from the design as read to mapped cells."""

    name: str
    script: str


@dataclass(frozen=True)
class Counts:
    """What a mapped netlist takes."""

    lut_equivalents: int
    luts: int
    carry: int
    lutram: int
    wide_muxes: int
    ff: int
    ram: int
    dsp: int
    depth: int
    cells: dict[str, int]
    area: float = 0.0  # of standard cells, which have no LUTs

    @property
    def size(self) -> float:
        """What a design is judged by: LUT equivalents, or the area of standard cells."""
        return self.area or self.lut_equivalents

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Technology:
    """An FPGA family: its synthesis command, cell rules, and the switch against wide LUTs.

    `lutram` says whether LUTs can be small memories.
    """

    name: str
    title: str
    synthesis: str
    rules: dict[str, Rule]
    narrow: str | None
    lutram: bool = True

    @property
    def files(self) -> dict[str, str]:
        """Texts that the recipes read, by name."""
        return {}

    @property
    def digest(self) -> str:
        """Hash of what results depend on besides the recipe."""
        return ""

    def recipes(self, multiplies: bool = False) -> list[Recipe]:
        """Return the candidates: with and without wide LUTs; multipliers with Booth recoding too.

        Parameters
        ----------
        multiplies
            The design has a ``*``, so that Yosys' ``booth`` pass has something to do.
        """
        # A wire called `act[0]` beside a port `act` is legal Verilog, but makes ABC's results
        # collide; hidden names do not.
        read = "hierarchy -auto-top; proc; flatten -noscopeinfo; opt_clean; rename -hide w:*"
        found = []
        for recoding, before in (("default", ""), ("booth", "opt; wreduce; booth")):
            if recoding == "booth" and not multiplies:
                continue
            for narrow in (None, self.narrow)[: 1 if self.narrow is None else 2]:
                name = recoding if narrow is None else f"{recoding} without wide LUTs"
                steps = [read, before, f"{self.synthesis} {narrow or ''}".strip()]
                found.append(Recipe(name, "; ".join(filter(None, steps))))
        return found

    def count(self, netlist: Netlist) -> Counts:
        """Count what a mapped netlist takes.

        Raises
        ------
        NetlistError
            A cell has no rule, or the logic has a loop.
        """
        total: Counter[str] = Counter()
        for type_, number in netlist.census().items():
            rule = self.rule(type_)
            total[rule.resource] += rule.units * number
        total["carry"] += self._carry_sites(netlist)
        return Counts(
            lut_equivalents=total["lut"] + total["carry"] + total["lutram"],
            luts=total["lut"],
            carry=total["carry"],
            lutram=total["lutram"],
            wide_muxes=total["wide"],
            ff=total["ff"],
            ram=total["ram"],
            dsp=total["dsp"],
            depth=longest_path(netlist, self._arcs),
            cells=dict(sorted(netlist.census().items())),
        )

    def rule(self, type_: str) -> Rule:
        """Return the rule for a cell type."""
        found = _match(self.name, type_)
        if found is None:
            raise NetlistError(f"cell {type_} must have a counting rule in {self.name}, not none")
        return found

    def _arcs(self, cell: Cell, port: str, index: int) -> Iterator[tuple[Bit, int]]:
        rule = self.rule(cell.type)
        if rule.reads is not None:
            address = rule.reads.get(port)
            for name, bits in cell.inputs.items():
                # RAM32X1D and its like have one port a bit: A0, A1, …
                if address is not None and re.fullmatch(rf"{address}\d*", name):
                    yield from ((bit, rule.levels) for bit in bits)
            return
        for name, bits in cell.inputs.items():
            for place, bit in enumerate(bits):
                if rule.resource != "carry" or _upward(port, index, name, place, len(bits)):
                    yield bit, 0 if name in rule.chain else rule.levels

    def _carry_sites(self, netlist: Netlist) -> int:
        """Return the LUT sites that carry cells take beyond what the rules say."""
        match self.name:
            case "ice40":
                return _carries_alone(netlist)
            case "xc7" | "xcup":
                return _feedthroughs(netlist)
        return 0


def _upward(out: str, index: int, name: str, place: int, width: int) -> bool:
    """Whether a carry cell's output bit depends on an input bit: carries only run upwards."""
    if width > 1:
        return place <= index
    return not (out == "S0" and name in ("A1", "B1", "C1", "D1"))


def _carries_alone(netlist: Netlist) -> int:
    """Return the SB_CARRY that no LUT joins, with I1 and I2 on its operands and I3 on its carry in.

    This is nextpnr's packing rule; a chain's constant carry in needs a cell of its own.
    """
    places: Counter[tuple[Bit, ...]] = Counter()
    for cell in netlist.cells:
        if cell.type == "SB_LUT4":
            places[tuple(cell.inputs[port][0] for port in ("I1", "I2", "I3"))] += 1
    alone = 0
    for cell in netlist.cells:
        if cell.type == "SB_CARRY":
            key = tuple(cell.inputs.get(port, ["x"])[0] for port in ("I0", "I1", "CI"))
            if isinstance(key[2], int) and places[key]:
                places[key] -= 1
            else:
                alone += 1
    return alone


def _feedthroughs(netlist: Netlist) -> int:
    """Return the select inputs of carry cells that are driven by something else than a LUT."""
    drivers = netlist.drivers()
    found = 0
    for cell in netlist.cells:
        if cell.type in ("CARRY4", "CARRY8"):
            for bit in cell.inputs["S"]:
                driver = drivers.get(bit)
                if isinstance(bit, int) and not (driver and re.match("LUT|INV", driver.type)):
                    found += 1
    return found


# Without SRLs, which are counted as LUTs: flip-flops take the place of both sides' delays.
_XILINX = "-nodsp -flatten -noiopad -noclkbuf -nosrl"

#: Every family by name.
TECHNOLOGIES = {
    entry.name: entry
    for entry in (
        Technology("ecp5", "Lattice ECP5", "synth_ecp5 -nodsp", ECP5, "-nowidelut"),
        Technology("ice40", "Lattice iCE40", "synth_ice40", ICE40, None, lutram=False),
        Technology(
            "xc7", "Xilinx 7 series", f"synth_xilinx -family xc7 {_XILINX}", XILINX, "-nowidelut"
        ),
        Technology(
            "xcup", "Xilinx UltraScale+", f"synth_xilinx -family xcup {_XILINX}", XILINX,
            "-nowidelut",
        ),
        Technology("gowin", "Gowin GW1N", "synth_gowin -nodsp -noiopads", GOWIN, "-nowidelut"),
    )
}  # fmt: skip


@cache
def _match(technology: str, type_: str) -> Rule | None:
    for pattern, rule in TECHNOLOGIES[technology].rules.items():
        if re.fullmatch(pattern, type_):
            return rule
    return None
