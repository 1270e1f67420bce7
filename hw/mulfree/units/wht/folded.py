"""The folded form: one adder a lane works through all levels on a vector kept in memory."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree.units.wht.spec import TransformSpec

#: Clock edges between the last read of a level and its last write, for which the next level waits.
DRAIN = 2


def cycles(spec: TransformSpec) -> int:
    """Return the clock cycles that a vector takes, from its first sample to the next one's.

    Beats in, levels of as many beats each with their pauses, one to fetch, beats out.
    """
    return spec.beats * (2 + spec.levels) + DRAIN * spec.levels + 1


class Folded(wiring.Component):
    """Takes a vector, transforms it in place, and gives it back; one at a time.

    Each lane has a memory of ``size / lanes`` words and one adder that adds or subtracts, a word a
    clock. The levels between rows come first: the two words of a pair are read one after the other,
    and the sum and the difference are written in their places. In the levels inside a row the lower
    lane of a pair adds and the upper one subtracts. Pairs are always half the lanes apart: writing
    deals the lanes out as a riffle of cards does, which after all levels has brought every word
    back to its own lane.

    Members
    -------
    sample : In(stream of spec.sample_layout)
    result : Out(stream of spec.result_layout)
    """

    def __init__(self, spec: TransformSpec) -> None:
        super().__init__(
            {
                "sample": In(stream.Signature(spec.sample_layout)),
                "result": Out(stream.Signature(spec.result_layout)),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build memory, sequencer and adders."""
        m = Module()
        spec = self.spec
        rows, lanes = spec.beats, spec.lanes
        row_levels = rows.bit_length() - 1
        shape = data.ArrayLayout(signed(spec.sum_bits), lanes)
        m.submodules.memory = words = memory.Memory(shape=shape, depth=rows, init=[])
        read_port, write_port = words.read_port(), words.write_port()
        row, store = read_port.data, write_port.data

        # Where the vector is: coming in, going round, or going out.
        loading, reading, unloading = Signal(init=1), Signal(), Signal()
        level = Signal(spec.levels, init=1)  # one hot
        stride = level[:row_levels]  # rows from one word of a pair to the other; 0 inside rows
        inside = ~stride.any()

        # The row at hand; in a pair of rows, whether it is the second.
        address = Signal(row_levels)
        half = Signal()
        last = address.all()
        move = Signal()
        with m.If(move):
            with m.If(reading & ~inside & ~half):
                m.d.sync += [address.eq(address | stride), half.eq(1)]
            with m.Else():
                kept = Mux(reading, ~stride, ~0)
                m.d.sync += [address.eq((address + 1) & kept), half.eq(0)]

        # What is read is written two edges later: one to fetch it, one to fetch its other half.
        fetched, writing = Signal(), Signal()
        behind = [Signal(row_levels, name=f"address_{edge}") for edge in range(1, DRAIN + 1)]
        half_behind = [Signal(name=f"half_{edge}") for edge in range(1, DRAIN + 1)]
        m.d.sync += [
            Cat(*behind).eq(Cat(address, *behind)),
            Cat(*half_behind).eq(Cat(half, *half_behind)),
            fetched.eq(reading),
            writing.eq(fetched),
        ]
        level_done = writing & ~fetched
        with m.If(reading & last):
            m.d.sync += reading.eq(0)
        with m.If(level_done):
            m.d.sync += [
                level.eq(level.rotate_left(1)),
                reading.eq(~level[-1]),
                unloading.eq(level[-1]),
            ]

        # The memory's own output register holds a result until it is taken.
        held = Signal()
        free = ~held | self.result.ready
        load = self.sample.valid & self.sample.ready
        unload = unloading & free
        m.d.comb += [
            self.sample.ready.eq(loading & ~held),
            self.result.valid.eq(held),
            move.eq(load | reading | unload),
            read_port.en.eq(free),
            read_port.addr.eq(address),
            write_port.en.eq(load | writing),
            write_port.addr.eq(Mux(loading, address, behind[-1])),
        ]
        m.d.comb += [
            self.result.p[lane].eq(spec.finish(row[lane].as_signed())) for lane in range(lanes)
        ]
        with m.If(free):
            m.d.sync += held.eq(unloading)
        with m.If(load & last):
            m.d.sync += [loading.eq(0), reading.eq(1)]
        with m.If(unload & last):
            m.d.sync += [unloading.eq(0), loading.eq(1)]

        results = []
        for lane in range(lanes):
            partner = lane ^ (lanes // 2)
            upper = bool(lane & (lanes // 2))
            own = row[lane]
            first, second = Signal.like(own), Signal.like(own)
            with m.If(~half_behind[0]):
                m.d.sync += first.eq(Mux(inside, row[partner], own) if upper else own)
            other = own if upper or lanes == 1 else Mux(inside, row[partner], own)
            m.d.sync += second.eq(other)
            minus = (half_behind[1] | inside) if upper else (half_behind[1] & ~inside)
            addend = Mux(inside | half_behind[1], second, own)
            result = Signal.like(own, name=f"result_{lane}")
            # The bit below the units makes the carry in.
            flipped = addend ^ minus.replicate(spec.sum_bits)
            m.d.comb += result.eq((Cat(1, first) + Cat(minus, flipped))[1:])
            results.append(result)
        for lane in range(lanes):
            riffled = results[lane // 2 + (lane & 1) * (lanes // 2)]
            back = Mux(inside, riffled, results[lane]) if lanes > 2 else results[lane]
            m.d.comb += store[lane].eq(Mux(loading, self.sample.p[lane], back))
        return m
