"""Tables of W·d in memories, and the generator that fills them from W by additions.

A *joint* table answers for the same digit of several lanes at once: at the address made of the
lanes' digits d_i it holds Σ_i W_i·d_i. One lane is LUT-NA's own table; one-bit digits make it
distributed arithmetic (Croisier 1973, Peled and Liu 1974). The entries of all outputs lie side by
side in one word, since all outputs look up the same digits.
"""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class TableGenerator(wiring.Component):
    """Computes every word of the joint tables of one lane group after the other.

    A ring of shift registers presents the group's weights over and over. An entry grows by Horner's
    rule, one weight and one address bit a clock: ``p ← 2p + Σ_i bit_i · W_i``, most significant
    bits first. With fewer generators than outputs each of them serves several outputs in turn, so
    that the time grows and the logic shrinks; shift registers cost flip-flops, not logic.

    A group takes ``passes · 2^address_bits · lanes · visits · (outputs / generators)`` clocks.

    Members
    -------
    weight : In(stream of signed(weight_bits))
        The tile: the outputs of lane 0 first.
    hold : In(1)
        No weights are taken while this is 1.
    address, word : Out
        Where to write, and the entries of every output.
    write : Out(groups)
        Write into the tables of this group.
    signed_top : Out(1)
        The word is for the tables of the signed top digit, not for those of the others.
    filled : Out(1)
        This edge writes the last word of a tile.
    """

    def __init__(
        self,
        *,
        outputs: int,
        lanes: int,
        groups: int,
        weight_bits: int,
        entry_bits: int,
        digit_bits: int,
        odd: bool,
        passes: tuple[bool, ...],
        generators: int,
    ) -> None:
        self._outputs, self._lanes, self._groups = outputs, lanes, groups
        self._weight_bits, self._entry_bits = weight_bits, entry_bits
        self._digit_bits, self._odd = digit_bits, odd
        self._passes, self._generators = passes, generators
        self._address_bits = lanes * (digit_bits - odd)
        super().__init__(
            {
                "weight": In(stream.Signature(signed(weight_bits))),
                "hold": In(1),
                "address": Out(self._address_bits),
                "word": Out(outputs * entry_bits),
                "write": Out(groups),
                "signed_top": Out(1),
                "filled": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the ring, the adders and the counters that walk over every address."""
        m = Module()
        turns = self._outputs // self._generators
        step = Signal()  # the ring turns by one place
        making = Signal()  # entries are made; otherwise weights are taken

        # Nested counters, fastest first: output turn, lane, digit bit, address, pass, group.
        _, turn_end = self._counter(m, "turn", turns, step)
        lane, lane_end = self._counter(m, "lane", self._lanes, turn_end)
        visit, visit_end = self._counter(m, "visit", self._digit_bits, lane_end & making)
        place, place_end = self._counter(m, "place", 1 << self._address_bits, visit_end)
        which, which_end = self._counter(m, "pass", len(self._passes), place_end)
        group, group_end = self._counter(m, "group", self._groups, which_end)
        with m.If(lane_end & ~making):
            m.d.sync += making.eq(1)
        with m.If(which_end):
            m.d.sync += making.eq(0)

        taken = self._take_weights(m, making, step)
        ring = self._ring(m, step, making, taken, turns)

        # The address bit that this visit weighs: bit-major, most significant digit bit first.
        bits: list[Any] = []
        for bit in reversed(range(self._digit_bits)):
            for of in range(self._lanes):
                index = (bit - self._odd) * self._lanes + of
                bits.append(Const(1) if self._odd and bit == 0 else place[index])
        # `lanes` is a power of two, so the two counters side by side are the index.
        at = Cat(lane[: (self._lanes - 1).bit_length()], visit)
        chosen = Array(bits)[at] if len(bits) > 1 else bits[0]
        subtract = Signal()
        top_pass = Array([Const(int(p)) for p in self._passes])[which]
        m.d.comb += subtract.eq(top_pass & (visit == 0))
        first = lane == 0 if self._lanes > 1 else Const(1)
        clear = lane == self._lanes - 1 if self._lanes > 1 else Const(1)
        if self._digit_bits > 1:
            clear &= visit == self._digit_bits - 1
        sums = [
            self._accumulate(m, index, step, ring, chosen, subtract, turns, first, clear)
            for index in range(self._generators)
        ]

        # Finished entries gather in a word, one shift a turn; the word is written on the next edge.
        word = Signal.like(self.word, reset_less=True)
        with m.If(step):
            m.d.sync += word.eq(Cat(word, *sums)[self._generators * self._entry_bits :])
        write = Signal(self._groups)
        last = Signal()
        m.d.sync += [
            self.address.eq(place),
            self.signed_top.eq(top_pass),
            write.eq(Mux(visit_end, Const(1) << group, 0)),
            last.eq(group_end),
        ]
        m.d.comb += [self.word.eq(word), self.write.eq(write), self.filled.eq(last)]
        return m

    @staticmethod
    def _counter(m: Module, name: str, length: int, enable: Any) -> tuple[Any, Signal]:
        """Return a counter and whether this edge makes it begin again."""
        end = Signal(name=f"{name}_end")
        if length == 1:
            m.d.comb += end.eq(enable)
            return Const(0, 0), end
        count = Signal(range(length), name=name)
        last = count == length - 1
        m.d.comb += end.eq(enable & last)
        with m.If(enable):
            following = count + 1
            m.d.sync += count.eq(
                following if length & (length - 1) == 0 else Mux(last, 0, following)
            )
        return count, end

    def _take_weights(self, m: Module, making: Signal, step: Signal) -> Any:
        """Gather one weight for each generator, then turn the ring; return the gathered weights."""
        ready = Signal()
        accept = Signal()
        m.d.comb += [
            ready.eq(~making & ~self.hold & ~self.filled),
            self.weight.ready.eq(ready),
            accept.eq(ready & self.weight.valid),
        ]
        _, complete = self._counter(m, "gather", self._generators, accept)
        m.d.comb += step.eq(making | complete)
        if self._generators == 1:
            return self.weight.payload
        earlier = Signal((self._generators - 1) * self._weight_bits, reset_less=True)
        gathered = Cat(earlier, self.weight.payload)
        with m.If(accept):
            m.d.sync += earlier.eq(gathered[self._weight_bits :])
        return gathered

    def _ring(self, m: Module, step: Signal, making: Signal, taken: Any, turns: int) -> Value:
        """Return the weights at the ring's head, one for each generator."""
        wide = self._generators * self._weight_bits
        ring = Signal(wide * turns * self._lanes, reset_less=True)
        with m.If(step):
            m.d.sync += ring.eq(Cat(ring[wide:], Mux(making, ring[:wide], taken)))
        return Value.cast(ring[:wide])

    def _accumulate(
        self, m: Module, index: int, step: Signal, ring: Any, chosen: Any, subtract: Signal,
        turns: int, first: Any, clear: Any,
    ) -> Signal:  # fmt: skip
        """Return one generator's sum of this step; its partial sums turn in a ring of their own."""
        entry = signed(self._entry_bits)
        weight = ring.word_select(index, self._weight_bits).as_signed()
        partial = [Signal(entry, name=f"partial_{index}_{turn}") for turn in range(turns)]
        base, addend, total = (
            Signal(entry, name=f"{name}_{index}") for name in ("base", "addend", "total")
        )
        doubled = Mux(first, partial[0] << 1, partial[0]) if self._digit_bits > 1 else partial[0]
        m.d.comb += [base.eq(doubled), addend.eq(Mux(chosen, weight, 0))]
        if any(self._passes):
            m.d.comb += total.eq(Mux(subtract, base - addend, base + addend))
        else:
            m.d.comb += total.eq(base + addend)
        with m.If(step):
            m.d.sync += [partial[turn].eq(partial[turn + 1]) for turn in range(turns - 1)]
        with m.If(step & clear):  # leaves zero behind for the next address
            m.d.sync += partial[-1].eq(0)
        with m.Elif(step):
            m.d.sync += partial[-1].eq(total)
        return total
