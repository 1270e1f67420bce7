import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree_sim import formal
from mulfree_sim.formal.streams import stream_rules


class Stage(wiring.Component):
    """One register between two streams; the flaws are those that the rules forbid."""

    port_help = {"source": "taken", "sink": "offered"}

    def __init__(self, flaw=None):
        self.flaw = flaw
        super().__init__({"source": In(stream.Signature(4)), "sink": Out(stream.Signature(4))})

    def elaborate(self, platform):
        m = Module()
        if self.flaw == "waits":
            m.d.comb += [
                self.sink.valid.eq(self.source.valid & self.sink.ready),
                self.sink.payload.eq(self.source.payload),
                self.source.ready.eq(self.sink.ready),
            ]
            return m
        m.d.comb += self.source.ready.eq(~self.sink.valid | self.sink.ready)
        with m.If(self.source.ready):
            m.d.sync += [
                self.sink.valid.eq(self.source.valid),
                self.sink.payload.eq(self.source.payload),
            ]
        if self.flaw == "withdraws":
            m.d.sync += self.sink.valid.eq(self.source.valid)
        elif self.flaw == "changes":
            m.d.sync += self.sink.payload.eq(self.source.payload)
        return m


def statuses(flaw):
    return {p.name: formal.run(p).status for p in stream_rules(Stage(flaw))}


def test_a_register_stage_keeps_the_rules():
    assert statuses(None) == {"keeps": "proved", "independent sink": "proved"}


@pytest.mark.parametrize("flaw", ["withdraws", "changes"])
def test_a_changed_offer_is_refuted(flaw):
    assert statuses(flaw) == {"keeps": "refuted", "independent sink": "proved"}


def test_valid_that_waits_for_ready_is_refuted():
    assert statuses("waits")["independent sink"] == "refuted"
