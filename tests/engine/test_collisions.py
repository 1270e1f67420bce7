"""Memories that are said to be never read where they are written: what such a read brings is void.

Synthesis is told so (`no_rw_check`), and the block RAMs of a chip then bring anything. Here they
bring the wrong word, and every result is still right.
"""

import pytest
from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from mulfree.engine import maps
from mulfree.units import lutna, skip
from mulfree.units.lutna import LutNASpec
from mulfree.units.skip import SkipSpec
from mulfree_sim import runner
from tests.engine.test_network import SEED, spec


class Spoilt(Memory):
    """A memory that brings a word's complement to who reads it while it is written."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._pairs = []

    def read_port(self, **options):
        inside = super().read_port(**options)
        if "no_rw_check" not in self.attrs:
            return inside
        outside = inside.signature.create()
        self._pairs.append((inside, outside))
        return outside

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = super().elaborate(platform)
        for inside, outside in self._pairs:
            written = [port.en.any() & (port.addr == outside.addr) for port in self.write_ports]
            spoilt = Signal()
            with m.If(outside.en):
                m.d.sync += spoilt.eq(Value.cast(sum(written)).any())
            word = Value.cast(inside.data)
            m.d.comb += [
                inside.addr.eq(outside.addr),
                inside.en.eq(outside.en),
                Value.cast(outside.data).eq(Mux(spoilt, ~word, word)),
            ]
        return m


@pytest.fixture(autouse=True)
def spoilt(monkeypatch):
    for module in (maps, lutna, skip):
        monkeypatch.setattr(module, "Memory", Spoilt)


@pytest.mark.parametrize(
    "unit",
    [
        spec(chunk=4),
        pytest.param(
            spec(LutNASpec(outputs=4, lanes=9, fill_lanes=3), chunk=20, scalers=4),
            marks=pytest.mark.slow,
        ),
        LutNASpec(outputs=2, lanes=4, tables="block", double_buffer=True),
        SkipSpec(),
    ],
    ids=["network", "network, loaded wide", "tables", "skip"],
)
def test_nobody_reads_what_is_written(unit):
    simulator = "icarus" if runner.available("icarus") else "verilator"
    result = runner.regress(unit, simulator=simulator, seed=SEED)
    assert result.passed, result.log
