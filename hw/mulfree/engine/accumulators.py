"""Accumulators in block RAM: one set of a chunk's pixels sums up while the other one drains."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mulfree.arith.trees import named
from mulfree.engine.geometry import Geometry
from mulfree.engine.maps import block_memory
from mulfree.engine.pipeline import register


class Accumulators(wiring.Component):
    """Adds dot products to the accumulators of their pixel, a pixel a clock.

    The same pixel may come again `INTERVAL` edges later at the earliest.

    Members
    -------
    valid, first, bank, pixel : In
        A dot product is to come `LEAD` edges later, for this pixel of this set; with `first`,
        what the accumulators held does not count.
    result : In
        Dot products.
    maximum, largest : In
        Instead of sums, twice the largest activation of each channel in `largest`, which comes
        with the dot products, is gathered in the first outputs. `maximum` is held.
    drain_bank, drain_pixel : In
        What to read from the set that drains.
    drained : Out
        Its accumulators, `DRAIN` edges later.
    """

    LEAD = 2
    INTERVAL = 4
    DRAIN = 3
    #: Edges from a dot product to the word that its chunk is summed up.
    SETTLE = 1

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        core = geometry.core
        pixel = range(geometry.chunk)
        accs = data.ArrayLayout(signed(geometry.acc_bits), core.outputs)
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "bank": In(1),
                "pixel": In(pixel),
                "result": In(data.ArrayLayout(signed(core.dot_bits), core.outputs)),
                "maximum": In(1),
                "largest": In(data.ArrayLayout(core.act_shape, geometry.slice)),
                "drain_bank": In(1),
                "drain_pixel": In(pixel),
                "drained": Out(accs),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build both sets, the way round from reading to writing, and the way out."""
        m = Module()
        geometry, core = self._geometry, self._geometry.core
        bits, outputs = geometry.acc_bits, core.outputs
        accs = data.ArrayLayout(signed(bits), outputs)

        # Edge 1: address. 2: read. 3: choice; what is added is registered too. 4: sum. 5: write.
        first, bank, pixel = [self.first], [self.bank], [self.pixel]
        valid = [self.valid]
        for edge in range(4):
            first.append(register(m, first[-1], f"first_{edge + 1}"))
            bank.append(register(m, bank[-1], f"bank_{edge + 1}"))
            pixel.append(register(m, pixel[-1], f"pixel_{edge + 1}"))
            held = Signal(name=f"valid_{edge + 1}")
            m.d.sync += held.eq(valid[-1])
            valid.append(held)
        drain_bank = [self.drain_bank]
        for edge in range(2):
            drain_bank.append(register(m, drain_bank[-1], f"drain_bank_{edge + 1}"))

        total = Signal(accs, reset_less=True)
        read_data = []
        for index in range(2):
            memory = block_memory(bits * outputs, geometry.chunk)
            m.submodules[f"set_{index}"] = memory
            read, write = memory.read_port(), memory.write_port()
            # While a set drains, nothing is added to it.
            sums = self.valid & (self.bank == index)
            read_at = register(m, Mux(sums, self.pixel, self.drain_pixel), f"read_{index}")
            m.d.comb += [
                read.addr.eq(read_at),
                write.addr.eq(pixel[4]),
                write.data.eq(total),
                write.en.eq(valid[4] & (bank[4] == index)),
            ]
            read_data.append(read.data)
        before = Signal(bits * outputs)
        with m.If(~first[2]):
            m.d.comb += before.eq(Mux(bank[2], read_data[1], read_data[0]))
        before = data.View(accs, register(m, before, "before"))
        m.d.comb += self.drained.eq(
            register(m, Mux(drain_bank[2], read_data[1], read_data[0]), "drained_q")
        )
        for o in range(outputs):
            given = self.result[o]
            if o < geometry.slice:
                given = Mux(self.maximum, self.largest[o] << 1, given)
            given = register(m, named(m, given, f"given_{o}"), f"given_{o}_q")
            value = before[o] + given
            if o < geometry.slice:
                keeps = (before[o] > given) & ~first[3]
                value = Mux(self.maximum, Mux(keeps, before[o], given), value)
            m.d.sync += total[o].eq(value)
        return m
