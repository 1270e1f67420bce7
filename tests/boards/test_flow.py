"""What the scripts for synthesis make of a design's attributes."""

import collections
import json
import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mulfree.engine.maps import block_memory
from mulfree_boards import flow

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


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("technology", flow.FLOWS)
def test_block_memories_take_no_logic(technology, readers, tmp_path):
    """Nothing keeps old data for who reads where another writes, since nobody does."""
    (tmp_path / "top.il").write_text(rtlil.convert(Words(readers), name="top"))
    (tmp_path / "synthesis.ys").write_text(flow.script(flow.FLOWS[technology]))
    flow.run(flow.SYNTHESIS, tmp_path)
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"].values()
    types = collections.Counter(cell["type"] for cell in cells)
    assert any("RAM" in name or "DP" in name for name in types)
    assert not [name for name in types if LOGIC.search(name)]
