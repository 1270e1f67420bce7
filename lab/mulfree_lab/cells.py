"""Standard cells as a technology: any Liberty file, by default Debian's osu018 library.

Synthesis maps flip-flops, full adders and logic to the library's cells, enables of four or more
flip-flops to a gated clock. What a cell is for (full adder, inverter, latch …) is found by its
function, so that any library serves. Area is the sum of the cells' areas; no wiring, no filler.
"""

import dataclasses
import hashlib
import itertools
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from mulfree.spec import Spec, SpecError
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_lab.liberty import Library, LibraryCell, verilog
from mulfree_lab.netlist import Cell, Netlist, NetlistError, longest_path
from mulfree_lab.technology import Counts, Recipe, Technology

#: The library of Debian's package, by the name of its target.
OSU018 = "osu018"
PACKAGE = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
#: Areas that a library leaves out, in µm²: the package's LEF gives LATCH 5.6 × 10 µm, Liberty 0.
AREAS = {"osu018_stdcells": {"LATCH": 56.0}}


def technology(name: str = OSU018, path: Path | None = None) -> "CellTechnology":
    """Return the technology of a Liberty file; without one, osu018 as Debian packs it.

    Raises
    ------
    SpecError
        The package is not installed.
    LibertyError
        The file is not a Liberty library.
    """
    if path is None and not PACKAGE.exists():
        raise SpecError(
            f"target {name} must have its cell library: apt-get install qflow-tech-osu018, "
            "or give another by --liberty FILE"
        )
    return _technology(name, path or PACKAGE)


@cache
def _technology(name: str, path: Path) -> "CellTechnology":
    library = Library.read(path)
    cells = {
        label: replace(cell, area=cell.area or AREAS.get(library.name, {}).get(label, 0.0))
        for label, cell in library.cells.items()
    }
    return CellTechnology(
        name=name,
        title=f"standard cells of {library.name}",
        synthesis="",
        rules={},
        narrow=None,
        lutram=False,
        library=replace(library, cells=cells),
        text=path.read_text(errors="replace"),
    )


#: Truth tables over inputs A, B, C counted as bits 0, 1, 2 of the row.
_FULL = {"sum": 0b10010110, "carry": 0b11101000}
_HALF = {"sum": 0b0110, "carry": 0b1000}
_INVERT, _AND = 0b01, 0b1000


@dataclass(frozen=True)
class Role:
    """A cell that has a part to play: its inputs in order, and its outputs by what they give."""

    cell: LibraryCell
    inputs: tuple[str, ...]
    outputs: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class CellTechnology(Technology):
    """A cell library: recipes from Verilog to cells, and their count and area."""

    library: Library = field(repr=False)
    text: str = field(repr=False)

    @cached_property
    def roles(self) -> dict[str, Role]:
        """Return the smallest cell of each part: full, half, invert, and, latch, flop."""
        found = {
            "full": self._combinational(3, _FULL),
            "half": self._combinational(2, _HALF),
            "invert": self._combinational(1, {"not": _INVERT}),
            "and": self._combinational(2, {"and": _AND}),
            "latch": self._stored("latch"),
            "flop": self._stored("ff"),
        }
        roles = {name: role for name, role in found.items() if role}
        if "flop" not in roles:
            raise SpecError(f"library {self.library.name} must have a flip-flop of data and clock")
        return roles

    def _combinational(self, size: int, wanted: dict[str, int]) -> Role | None:
        best = None
        for cell in self.library.cells.values():
            inputs = [pin.name for pin in cell.pins.values() if not pin.output]
            outputs = cell.outputs
            usable = cell.area and not cell.storage and not any(p.three_state for p in outputs)
            if not usable or len(inputs) != size or len(outputs) != len(wanted):
                continue
            tables = {truth(pin.function, inputs): pin.name for pin in outputs}
            if set(tables) == set(wanted.values()) and (not best or cell.area < best.cell.area):
                given = {part: tables[table] for part, table in wanted.items()}
                best = Role(cell, tuple(inputs), given)
        return best

    def _stored(self, kind: str) -> Role | None:
        best = None
        for cell in self.library.cells.values():
            store = cell.storage
            if not store or store.kind != kind or not cell.area or store.clear or store.preset:
                continue
            inputs = {pin.name for pin in cell.pins.values() if not pin.output}
            output = next((p.name for p in cell.outputs if p.function == store.state), None)
            if inputs != {store.data, store.clock} or not output:
                continue
            if not best or cell.area < best.cell.area:
                best = Role(cell, (store.data, store.clock), {"q": output})
        return best

    def recipes(self, multiplies: bool = False) -> list[Recipe]:
        """Return the candidates: adders as cells, upright or complemented, or as logic; each
        through two optimisers; multipliers with Yosys' Booth passes too.
        """
        read = "hierarchy -auto-top; proc; flatten -noscopeinfo; opt_clean; rename -hide w:*"
        ways = {"full adders": "full.v", "complemented full adders": "complement.v"}
        ways = ways if "full" in self.roles else {"logic": ""}
        recodings = {"": ""}
        if multiplies:
            recodings |= {
                "booth, ": "opt; wreduce; booth",
                "booth -lowpower, ": "opt; wreduce; booth -lowpower",
            }
        found = []
        for (recoding, before), (way, adders), (optimiser, abc) in itertools.product(
            recodings.items(), ways.items(), _OPTIMISERS.items()
        ):
            steps = [
                read,
                before,
                "synth -run coarse:fine",
                "opt -fast -full; memory_map; opt -undriven -fine; opt_dff; simplemap t:$dff*",
                self._gating,
                *(_ADDERS.format(adders).split("\n") if adders else ["techmap"]),
                "opt -fast; dfflibmap -liberty cells.lib",
                f"abc {abc} -liberty cells.lib",
                "read_verilog gate.v; flatten -noscopeinfo; opt_clean -purge",
                "delete mulfree_gate",
                "read_liberty -lib -ignore_miss_func cells.lib",  # which way each pin goes
            ]
            found.append(Recipe(f"{recoding}{way}, {optimiser}", "\n".join(filter(None, steps))))
        return found

    @property
    def _gating(self) -> str:
        if not {"latch", "and", "invert"} <= set(self.roles):
            return ""
        return "clockgate -pos mulfree_gate ce:clk:gclk -min_net_size 4"

    @property
    def files(self) -> dict[str, str]:
        """Return the texts that the recipes read, by name."""
        return {
            "cells.lib": self.text,
            "ripple.v": _RIPPLE,
            **self._adder_maps(),
            "gate.v": self._gate(),
        }

    def _adder_maps(self) -> dict[str, str]:
        if not {"full", "half"} <= set(self.roles):
            return {}
        full, half = self.roles["full"], self.roles["half"]

        def instance(role: Role, name: str, inputs: list[str], carry: str, total: str) -> str:
            pins = dict(zip(role.inputs, inputs, strict=True))
            pins |= {role.outputs["carry"]: carry, role.outputs["sum"]: total}
            ports = ", ".join(f".{pin}({net})" for pin, net in pins.items())
            return f"{role.cell.name} {name} ({ports});"

        plain = instance(full, "full", ["A[i]", "B[i]", "C[i]"], "X[i]", "Y[i]")
        turned = instance(full, "full", ["~A[i]", "~B[i]", "~C[i]"], "x", "y")
        turned = f"begin wire x, y; {turned} assign X[i] = ~x; assign Y[i] = ~y; end"
        halves = {
            f"half_{a}{b}": instance(half, "half", [f"{a}[i]", f"{b}[i]"], "X[i]", "Y[i]")
            for a, b in ("AB", "AC", "BC")
        }
        return {
            "full.v": _FULLS.format(full=plain, **halves),
            "complement.v": _FULLS.format(full=turned, **halves),
        }

    def _gate(self) -> str:
        if not self._gating:
            return "module mulfree_gate (input ce, clk, output gclk); endmodule\n"
        roles = self.roles
        latch, gate, invert = roles["latch"], roles["and"], roles["invert"]
        data, clock = latch.inputs
        return (
            "module mulfree_gate (input ce, clk, output gclk);\n  wire low, open;\n"
            f"  {invert.cell.name} invert (.{invert.inputs[0]}(clk), "
            f".{invert.outputs['not']}(low));\n"
            f"  {latch.cell.name} hold (.{data}(ce), .{clock}(low), "
            f".{latch.outputs['q']}(open));\n"
            f"  {gate.cell.name} gate (.{gate.inputs[0]}(clk), .{gate.inputs[1]}(open), "
            f".{gate.outputs['and']}(gclk));\nendmodule\n"
        )

    @property
    def digest(self) -> str:
        """Hash of the library and of the maps: part of every key."""
        return hashlib.sha256("\0".join(self.files.values()).encode()).hexdigest()

    def cell(self, type_: str) -> LibraryCell:
        """Return a library cell.

        Raises
        ------
        NetlistError
            The library has no such cell, or says nothing of its area.
        """
        found = self.library.cells.get(type_)
        if found is None or not found.area:
            raise NetlistError(f"cell {type_} must have an area in {self.library.name}, not none")
        return found

    def count(self, netlist: Netlist) -> Counts:
        """Return the area, the flip-flops and the depth in cells of a mapped netlist."""
        census = netlist.census()
        cells = {type_: self.cell(type_) for type_ in census}
        stored = sum(n for type_, n in census.items() if cells[type_].storage)
        return Counts(
            lut_equivalents=0, luts=0, carry=0, lutram=0, wide_muxes=0, ff=stored, ram=0, dsp=0,
            depth=longest_path(netlist, self._arcs),
            cells=dict(sorted(census.items())),
            area=sum(cells[type_].area * n for type_, n in census.items()),
        )  # fmt: skip

    def _arcs(self, cell: Cell, port: str, index: int) -> Any:
        if not self.cell(cell.type).storage:
            for bits in cell.inputs.values():
                yield from ((bit, 1) for bit in bits)


def truth(function: str, inputs: list[str]) -> int:
    """Return a Liberty function's truth table; bit n is its value where the inputs count n."""
    rows = 1 << len(inputs)
    patterns = {
        name: str(sum(1 << row for row in range(rows) if row >> place & 1))
        for place, name in enumerate(inputs)
    }
    expression = verilog(function, patterns).replace("1'b1", "-1").replace("1'b0", "0")
    return eval(expression, {"__builtins__": {}}) & ((1 << rows) - 1)


def structures(spec: Spec, fixed: frozenset[str] = frozenset()) -> list[Spec]:
    """Return the structures of a design, or of a baseline, that suit standard cells.

    Sums are taken by trees and by carry-save adders, tables kept in flip-flops, or made of the
    activations and shared; one rank of registers, none between.
    """
    return list(dict.fromkeys([*_rebuilt(spec, fixed)]))


def _rebuilt(spec: Spec, fixed: frozenset[str]) -> list[Spec]:
    choices: list[dict[str, Any]] = [{}]
    match spec:
        case LutNASpec():
            free = {"digit_bits": 0, "table_lanes": 0, "pipeline": -1}
            joint = free | {"tables": "activations", "reduce": "carry-save", "pipeline": 1}
            choices += [
                joint,
                joint | {"table_lanes": 1, "digit_bits": 2},
                free | {"tables": "registers", "storage": "odd", "reduce": "carry-save"},
                free | {"tables": "registers", "storage": "full", "reduce": "carry-save"},
            ]
        case BaselineSpec():
            choices += [{"reduce": "carry-save"}, {"reduce": "tree"}]
        case PoTSpec():
            choices += [{"structure": s, "pipeline": p} for s in ("lut4", "lut6") for p in (-1, 1)]
    found: list[Spec] = []
    for change in choices:
        try:
            found.append(
                replace(spec, **{k: v for k, v in change.items() if k not in fixed or not v})
            )
        except SpecError:  # what is fixed does not go with this structure
            continue
    for f in dataclasses.fields(spec):
        value = getattr(spec, f.name)
        if isinstance(value, Spec):
            found += [replace(spec, **{f.name: inner}) for inner in _rebuilt(value, fixed)]
    return found


_OPTIMISERS = {
    "default": "",
    "area": "-script +strash;ifraig;scorr;dc2;dc2;strash;dch;amap",
    "area and buffers": "-script +strash;ifraig;scorr;dc2;dc2;strash;dch;amap;buffer,-p,-N,12",
}

_ADDERS = """techmap -map ripple.v -map +/techmap.v
opt -fast
extract_fa -fa
techmap -map {}
techmap"""

# Ripple-carry is the smallest adder, and full-adder cells the smallest way to make it.
_RIPPLE = """(* techmap_celltype = "$alu" *)
module mulfree_ripple (A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  (* force_downto *) input [A_WIDTH-1:0] A;
  (* force_downto *) input [B_WIDTH-1:0] B;
  input CI, BI;
  (* force_downto *) output [Y_WIDTH-1:0] X, Y, CO;
  (* force_downto *) wire [Y_WIDTH-1:0] AA, BX, BB;
  \\$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(Y_WIDTH)) a_wide (.A(A), .Y(AA));
  \\$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)) b_wide (.A(B), .Y(BX));
  assign BB = BX ^ {Y_WIDTH{BI}};
  assign X = AA ^ BB;
  wire [Y_WIDTH:0] carry = {CO, CI};
  genvar i;
  generate for (i = 0; i < Y_WIDTH; i = i + 1) begin : bits
    \\$fa #(.WIDTH(1)) add (.A(AA[i]), .B(BB[i]), .C(carry[i]), .X(CO[i]), .Y(Y[i]));
  end endgenerate
endmodule
"""

# A full adder with a constant input is less than one; full adders are their own dual, so that
# complemented sums cost no more, and NAND gates make complemented rows.
_FULLS = """(* techmap_celltype = "$fa" *)
module mulfree_full (A, B, C, X, Y);
  parameter WIDTH = 1;
  parameter _TECHMAP_CONSTMSK_A_ = 0;
  parameter _TECHMAP_CONSTVAL_A_ = 0;
  parameter _TECHMAP_CONSTMSK_B_ = 0;
  parameter _TECHMAP_CONSTVAL_B_ = 0;
  parameter _TECHMAP_CONSTMSK_C_ = 0;
  parameter _TECHMAP_CONSTVAL_C_ = 0;
  (* force_downto *) input [WIDTH-1:0] A, B, C;
  (* force_downto *) output [WIDTH-1:0] X, Y;
  localparam [WIDTH-1:0] KA = _TECHMAP_CONSTMSK_A_, VA = _TECHMAP_CONSTVAL_A_;
  localparam [WIDTH-1:0] KB = _TECHMAP_CONSTMSK_B_, VB = _TECHMAP_CONSTVAL_B_;
  localparam [WIDTH-1:0] KC = _TECHMAP_CONSTMSK_C_, VC = _TECHMAP_CONSTVAL_C_;
  genvar i;
  generate for (i = 0; i < WIDTH; i = i + 1) begin : bits
    if (!KA[i] && !KB[i] && !KC[i])
      {full}
    else if (KC[i] && !VC[i] && !KA[i] && !KB[i])
      {half_AB}
    else if (KB[i] && !VB[i] && !KA[i] && !KC[i])
      {half_AC}
    else if (KA[i] && !VA[i] && !KB[i] && !KC[i])
      {half_BC}
    else begin
      assign X[i] = (A[i] & B[i]) | (C[i] & (A[i] | B[i]));
      assign Y[i] = A[i] ^ B[i] ^ C[i];
    end
  end endgenerate
endmodule
"""
