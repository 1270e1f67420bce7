"""Counting rules and logic depth on netlists that can be counted by hand."""

from typing import Any

import pytest

from mulfree_lab.netlist import Bit, Netlist, NetlistError
from mulfree_lab.synthesis import Job, Synthesizer
from mulfree_lab.technology import TECHNOLOGIES, Counts

OUTPUTS = {"Z", "O", "CO", "COUT", "S0", "S1", "SUM", "DO", "Q", "F", "DOA", "DOB"}

Cells = list[tuple[str, dict[str, list[Bit]]]]


def netlist(*cells: tuple[str, dict[str, list[Bit]]]) -> Netlist:
    """A flat module of these cells, in the form that Yosys writes."""
    entries: dict[str, Any] = {
        f"c{place}": {
            "type": type_,
            "connections": ports,
            "port_directions": {p: "output" if p in OUTPUTS else "input" for p in ports},
        }
        for place, (type_, ports) in enumerate(cells)
    }
    top = {"attributes": {}, "ports": {}, "cells": entries}
    library = {"attributes": {"blackbox": "1"}, "ports": {}, "cells": {}}
    return Netlist.from_json({"modules": {"top": top, "CELL": library}})


def count(technology: str, *cells: tuple[str, dict[str, list[Bit]]]) -> Counts:
    return TECHNOLOGIES[technology].count(netlist(*cells))


def test_unknown_cell_is_an_error() -> None:
    with pytest.raises(NetlistError, match=r"cell MYSTERY must have a counting rule in ecp5"):
        count("ecp5", ("MYSTERY", {"A": [2], "Z": [3]}))


def test_a_hierarchy_is_an_error() -> None:
    module = {"attributes": {}, "ports": {}, "cells": {}}
    with pytest.raises(NetlistError, match="netlist must be one flat module, not 2"):
        Netlist.from_json({"modules": {"a": module, "b": module}})


def test_loop_is_an_error() -> None:
    with pytest.raises(NetlistError, match="no combinational loop"):
        count("ecp5", ("LUT4", {"A": [2], "Z": [3]}), ("LUT4", {"A": [3], "Z": [2]}))


def test_ecp5() -> None:
    found = count(
        "ecp5",
        ("LUT4", {"A": [2], "B": [3], "Z": [10]}),  # level 1
        ("TRELLIS_DPR16X4", {"RAD": [10, 2, 2, 2], "WAD": [4, 4, 4, 4], "DI": [20], "DO": [11]}),
        ("CCU2C", {"A0": [11], "A1": [2], "CIN": ["0"], "S0": [12], "S1": [13], "COUT": [14]}),
        ("CCU2C", {"A0": [2], "A1": [2], "CIN": [14], "S0": [15], "S1": [16], "COUT": [17]}),
        ("PFUMX", {"ALUT": [16], "BLUT": [2], "C0": [3], "Z": [18]}),
        ("TRELLIS_FF", {"DI": [18], "CLK": [9], "Q": [20]}),
        ("DP16KD", {"ADA0": [20]}),
    )
    assert found.lut_equivalents == 1 + 6 + 2 * 2
    assert (found.luts, found.lutram, found.carry, found.wide_muxes) == (1, 6, 4, 1)
    assert (found.ff, found.ram, found.dsp) == (1, 1, 0)
    assert found.depth == 3  # LUT, RAM read, carry chain; the chain's step and the mux are free


def test_ecp5_low_sum_does_not_wait_for_the_high_operand() -> None:
    found = count(
        "ecp5",
        ("LUT4", {"A": [5], "Z": [6]}),
        ("CCU2C", {"A0": [2], "A1": [6], "CIN": ["0"], "S0": [5], "S1": [7], "COUT": [8]}),
    )
    assert found.depth == 3  # carry cell, LUT, carry cell again: no loop through bit 0


def test_ice40_counts_a_carry_without_its_lut() -> None:
    carry = {"I0": [2], "I1": [3], "CI": [4], "CO": [5]}
    same_site = ("SB_LUT4", {"I0": ["0"], "I1": [2], "I2": [3], "I3": [4], "O": [6]})
    elsewhere = ("SB_LUT4", {"I0": ["0"], "I1": [3], "I2": [9], "I3": [4], "O": [6]})
    assert count("ice40", ("SB_CARRY", carry), same_site).lut_equivalents == 1
    assert count("ice40", ("SB_CARRY", carry), elsewhere).lut_equivalents == 2
    first = carry | {"CI": ["1"]}
    assert count("ice40", ("SB_CARRY", first)).lut_equivalents == 1
    twice = count("ice40", ("SB_CARRY", carry), ("SB_CARRY", carry | {"CO": [7]}), same_site)
    assert twice.lut_equivalents == 2  # one LUT site holds one carry


def test_xilinx() -> None:
    found = count(
        "xc7",
        ("LUT6", {"I0": [2], "O": [10]}),
        ("INV", {"I": [3], "O": [11]}),
        ("RAM32M", {"ADDRA": [10], "ADDRD": [4], "DIA": [12], "DOA": [12]}),
        ("CARRY4", {"S": [11, 12, "0", "0"], "DI": [2, 3, "0", "0"], "CI": ["0"],
                    "O": [13, 14, 15, 16]}),
        ("SRL16E", {"A0": [2], "D": [14], "Q": [17]}),
        ("RAM32X1D", {"A0": [2], "DPRA0": [3], "D": [5], "DPO": [18]}),
        ("MUXF7", {"I0": [17], "I1": [18], "S": [2], "O": [19]}),
        ("FDRE", {"D": [19], "Q": [20]}),
        ("RAMB36E1", {"ADDRARDADDR": [20]}),
    )  # fmt: skip
    # LUT6, INV, four LUTs of RAM, the select that comes from RAM, one LUT of shift register, two
    assert found.lut_equivalents == 1 + 1 + 4 + 1 + 1 + 2
    assert (found.wide_muxes, found.ff, found.ram) == (1, 1, 2)
    assert found.depth == 2  # LUT6, RAM read; data written to a memory ends there


def test_gowin() -> None:
    found = count(
        "gowin",
        ("LUT1", {"I0": [2], "F": [10]}),
        ("RAM16SDP4", {"RAD": [10], "WAD": [3], "DI": [4], "DO": [11]}),
        ("ALU", {"I0": [11], "I1": [3], "CIN": ["0"], "SUM": [12], "COUT": [13]}),
        ("ALU", {"I0": [2], "I1": [3], "CIN": [13], "SUM": [14], "COUT": [15]}),
        ("MUX2_LUT5", {"I0": [12], "I1": [14], "O": [16]}),
        ("DFFRE", {"D": [16], "Q": [17]}),
    )
    assert found.lut_equivalents == 1 + 6 + 2
    assert (found.wide_muxes, found.ff) == (1, 1)
    assert found.depth == 3


@pytest.mark.parametrize("name", TECHNOLOGIES)
def test_every_family_synthesises(name: str) -> None:
    """A registered sum of four bits: one level of adders, eight registers, nothing unknown."""
    verilog = (
        "module t(input clk, input [3:0] a, b, output reg [3:0] y);"
        "reg [3:0] s; always @(posedge clk) begin s <= a; y <= s + b; end endmodule"
    )
    technology = TECHNOLOGIES[name]
    counts = Synthesizer(jobs=1).one(Job(verilog, technology, technology.recipes()[-1]))
    assert 4 <= counts.lut_equivalents <= 8
    assert (counts.ff, counts.ram, counts.dsp) == (8, 0, 0)
    assert counts.depth in (1, 2)  # Xilinx maps four bits without the chain
