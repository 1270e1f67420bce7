"""Accumulators in block RAM: a chunk's pixels drain while the next chunk sums up."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mulfree.arith.trees import named
from mulfree.engine.geometry import Geometry
from mulfree.engine.maps import block_memory
from mulfree.engine.pipeline import pulses, register


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
        What to read; its last sum is `SETTLE` edges old at least.
    drained : Out
        Its accumulators, `DRAIN` edges later.
    """

    LEAD = 2
    INTERVAL = 4
    DRAIN = 3
    #: Edges from a pixel's last dot product to the word that it may drain.
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
        """Build the memory, the way round from reading to writing, and the way out."""
        m = Module()
        geometry, core = self._geometry, self._geometry.core
        bits, outputs = geometry.acc_bits, core.outputs
        accs = data.ArrayLayout(signed(bits), outputs)

        # Edge 1: address. 2: read. 3: choice; what is added is registered too. 4: sum. 5: write.
        first = [self.first]
        for edge in range(3):
            first.append(register(m, first[-1], f"first_{edge + 1}"))
        address = [Cat(self.pixel, self.bank)]
        for edge in range(4):
            address.append(register(m, address[-1], f"address_{edge + 1}"))
        valid = pulses(m, self.valid, 4, "valid_late")

        total = Signal(accs, reset_less=True)
        # Two ports that read are two copies of the memory. One port for both would need a memory
        # for each set, as many blocks, and multiplexers; a set could not drain while it sums up.
        m.submodules.sums = memory = block_memory(bits * outputs, 2 << len(self.pixel))
        write, read, drain = memory.write_port(), memory.read_port(), memory.read_port()
        m.d.comb += [
            write.addr.eq(address[4]),
            write.data.eq(total),
            write.en.eq(valid[4]),
            read.addr.eq(address[1]),
            drain.addr.eq(register(m, Cat(self.drain_pixel, self.drain_bank), "drain_at")),
            self.drained.eq(register(m, drain.data, "drained_q")),
        ]
        before = data.View(accs, register(m, Mux(first[2], 0, read.data), "before"))
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
