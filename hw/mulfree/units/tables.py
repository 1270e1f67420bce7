"""Tables of W·d in memories, and the generator that fills them from W by additions.

A *joint* table answers for the same digit of several lanes at once: at the address made of the
lanes' digits d_i it holds Σ_i W_i·d_i. One lane is LUT-NA's own table; one-bit digits make it
distributed arithmetic (Croisier 1973, Peled and Liu 1974). The entries of all outputs lie side by
side in one word, since all outputs look up the same digits.
"""

from functools import cache
from itertools import product
from typing import Any, NamedTuple

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from mulfree.units.core import TileHandshake, WeightRegisters, own


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


class Step(NamedTuple):
    """One step of a walk over a table's words, and what is written behind it.

    Members
    -------
    lane
        The lane whose digit grows or shrinks by one; None where all of them become zero.
    down
        It shrinks.
    address
        The word that the digits are now the address of.
    writes
        Whether it belongs to the tables of plain digits, and of signed top ones.
    """

    lane: int | None
    down: bool
    address: int
    writes: tuple[bool, bool]


@cache
def walk(lanes: int, digit_bits: int, odd: bool, passes: tuple[bool, ...]) -> tuple[Step, ...]:
    """Return a walk over every word of the joint tables, from zero and back to zero.

    Each step changes one lane's digit by one and so the entry by ±W. Of the words not yet reached
    the nearest is next, the lowest lane first: with one-bit digits that is a Gray code.

    Parameters
    ----------
    odd
        Only odd digits are stored, digit 2i + 1 at address i.
    passes
        Whether digits are signed, for each set of tables.
    """
    size = 1 << digit_bits
    wanted: dict[tuple[int, ...], list[bool]] = {}
    for top in passes:
        low = -(size // 2) if top else 0
        digits = [d for d in range(low, low + size) if d % 2 or not odd]
        for point in product(digits, repeat=lanes):
            wanted.setdefault(point, [False, False])[top] = True

    def arrive(point: tuple[int, ...], lane: int | None, down: bool) -> Step:
        address = 0
        for at, digit in enumerate(point):
            code = (digit % size) >> odd
            for bit in range(digit_bits - odd):
                address |= (code >> bit & 1) << (bit * lanes + at)
        plain, top = wanted.get(point, (False, False))
        return Step(lane, down, address, (plain, top))

    zero = here = (0,) * lanes
    left = set(wanted) - {zero}
    steps = []

    def go(goal: tuple[int, ...]) -> None:
        nonlocal here
        for lane in range(lanes):
            while here[lane] != goal[lane]:
                down = goal[lane] < here[lane]
                here = (*here[:lane], here[lane] + (-1 if down else 1), *here[lane + 1 :])
                left.discard(here)
                steps.append(arrive(here, lane, down))

    while left:
        go(min(left, key=lambda point: _way(here, point)))
    if _way(here, zero)[0] == 1:
        go(zero)
    else:
        steps.append(arrive(zero, None, False))
    return tuple(steps)


def _way(here: tuple[int, ...], point: tuple[int, ...]) -> tuple[int, list[int], list[int]]:
    """Return what the next point is chosen by: its distance, then the lanes that change."""
    change = [b - a for a, b in zip(here, point, strict=True)]
    far = [abs(c) for c in change]
    return sum(far), far[::-1], change


def lane_groups(lanes: int, groups: int, fill_lanes: int) -> list[list[int]]:
    """Return the lanes of each group whose tables are filled from a `LaneStore`.

    A lane of a beat always belongs to the same few groups, so that nothing chooses on the way into
    their memories or out of them; the groups that are left over take whole beats.

    Parameters
    ----------
    lanes
        Of a group.
    fill_lanes
        Lanes of a beat.
    """
    if lanes % fill_lanes:
        return [list(range(g * lanes, (g + 1) * lanes)) for g in range(groups)]
    whole = groups // fill_lanes * lanes  # beats
    found = [
        [beat * fill_lanes + place for beat in range(first, first + lanes)]
        for place in range(fill_lanes)
        for first in range(0, whole, lanes)
    ]
    rest = range(whole * fill_lanes, groups * lanes)
    return found + [list(rest[first : first + lanes]) for first in range(0, len(rest), lanes)]


class LaneStore(wiring.Component):
    """A tile of weights, of which one lane of every group is read at a time.

    The lanes lie in small memories, which cost less than flip-flops with a multiplexer behind them
    and have no enable that runs to every weight. Where a group is not whole beats they are
    flip-flops.

    Members
    -------
    weight : In(stream)
        The tile, `fill_lanes` whole lanes a beat, as `Core.weight`.
    retire, loaded
        As of `Core`.
    lane : In(lane within its group × groups)
        Lanes are in the groups that `lane_groups` says.
    weights : Out(the weights of that lane for every output × groups)
        On the same edge.
    """

    @staticmethod
    def delay(lanes: int, fill_lanes: int) -> int:
        """Return the clock edges from the last beat to `loaded`, besides the one that takes it."""
        return int(lanes % fill_lanes == 0)

    def __init__(
        self, *, outputs: int, lanes: int, groups: int, bits: int, fill_lanes: int
    ) -> None:
        self._lanes, self._groups, self._fill = lanes, groups, fill_lanes
        self._row = outputs * bits
        super().__init__(
            {
                "weight": In(stream.Signature(unsigned(self._row * fill_lanes))),
                "retire": In(1),
                "loaded": Out(1),
                "lane": In(data.ArrayLayout(range(max(lanes, 2)), groups)),
                "weights": Out(data.ArrayLayout(self._row, groups)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build memories or flip-flops, and the choice of a lane."""
        m = Module()
        if self._lanes % self._fill:
            self._registers(m)
        else:
            self._memories(m)
        return m

    def _registers(self, m: Module) -> None:
        m.submodules.tile = tile = WeightRegisters(
            self._row, self._lanes * self._groups, False, self._fill
        )
        m.d.comb += [
            tile.weight.payload.eq(self.weight.payload),
            tile.weight.valid.eq(self.weight.valid),
            self.weight.ready.eq(tile.weight.ready),
            tile.retire.eq(self.retire),
            self.loaded.eq(tile.loaded),
        ]
        for group in range(self._groups):
            rows = [tile.tile[group * self._lanes + lane] for lane in range(self._lanes)]
            m.d.comb += self.weights[group].eq(Array(rows)[self.lane[group]])

    def _memories(self, m: Module) -> None:
        """Build a memory for each group, and one for each lane of a beat for those left over.

        A tile comes in blocks: of as many beats as a group has lanes, which fill one group for each
        lane of a beat, and then of whole beats of one group.
        """
        lanes, fill = self._lanes, self._fill
        blocks, left = divmod(self._groups, fill)
        m.submodules.handshake = handshake = TileHandshake(False)
        block, row = Signal(range(max(blocks + left, 2))), Signal(range(max(lanes, 2)))
        accept = self.weight.valid & self.weight.ready
        row_end = row == Mux(block < blocks, lanes, lanes // fill) - 1
        last = row_end & (block == blocks + left - 1)
        beat, complete = Signal.like(self.weight.payload, reset_less=True), Signal()
        m.d.sync += [beat.eq(self.weight.payload), complete.eq(accept & last)]
        m.d.comb += [
            self.weight.ready.eq(handshake.writable & ~complete),
            handshake.filled.eq(complete),
            handshake.retire.eq(self.retire),
            self.loaded.eq(handshake.loaded),
        ]
        with m.If(accept):
            m.d.sync += [
                row.eq(Mux(row_end, 0, row + 1)),
                block.eq(Mux(last, 0, block + row_end)),
            ]

        def kept(name: str, place: int, depth: int, here: Value, address: Value) -> Value:
            """Return the row read of a memory that takes one lane of the beats of a block."""
            # Two rows at the least: a memory without an address trips some tools.
            m.submodules[name] = rows = Memory(shape=self._row, depth=max(depth, 2), init=[])
            write, read = rows.write_port(), rows.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(own(m, row, f"row_{name}")),
                write.data.eq(beat.word_select(place, self._row)),
                write.en.eq(own(m, accept & here, f"write_{name}")),
                read.addr.eq(address),
            ]
            return read.data

        for group in range(blocks * fill):
            place, first = divmod(group, blocks)
            here = kept(f"lanes_{group}", place, lanes, block == first, self.lane[group])
            m.d.comb += self.weights[group].eq(here)
        for group in range(blocks * fill, self._groups):
            here = block == group - blocks * fill + blocks
            at = Array(lane // fill for lane in range(lanes))[self.lane[group]]
            rows = [
                kept(f"lanes_{group}_{place}", place, lanes // fill, here, at)
                for place in range(fill)
            ]
            m.d.comb += self.weights[group].eq(
                Array(rows[lane % fill] for lane in range(lanes))[self.lane[group]]
            )


class TableWalker(wiring.Component):
    """Computes one word of the joint tables of every lane group a clock, all groups side by side.

    Every entry has an accumulator, to which one weight is added or from which one is subtracted in
    each step of a `walk`. The outputs stand in blocks, which have control registers of their own,
    marked to be kept: merged, they would drive every table of the core. An output's tables are
    placed together, since they are summed together, so a block's control stays in one part of the
    chip; that of a lane group would run to all of it.

    Members
    -------
    start : In(1)
        This edge may take the first step.
    done : Out(1)
        This edge takes the last step; the next one is the last to read the weights.
    lane : Out, weights : In
        As of `LaneStore`, which holds the tile from `start` to behind `done`.
    words : Out
        The entries of every output, for each group.
    address, write : Out(blocks)
        Where to write; whether to write into the tables of plain digits, and of signed top ones:
        the first time `DELAY` edges after the first step.
    filled : Out(1)
        Activations taken on the edge after this one find the whole tile.
    """

    #: Edges from a step to the writing of its word.
    DELAY = 2

    def __init__(
        self,
        *,
        outputs: int,
        blocks: int,
        lanes: int,
        groups: int,
        weight_bits: int,
        entry_bits: int,
        steps: tuple[Step, ...],
        block: bool,
    ) -> None:
        self._outputs, self._blocks, self._groups = outputs, blocks, groups
        self._weight_bits, self._entry_bits = weight_bits, entry_bits
        self._steps, self._block = steps, block
        address_bits = max(step.address for step in steps).bit_length()
        super().__init__(
            {
                "start": In(1),
                "done": Out(1),
                "lane": Out(data.ArrayLayout(range(max(lanes, 2)), groups)),
                "weights": In(data.ArrayLayout(outputs * weight_bits, groups)),
                "words": Out(data.ArrayLayout(outputs * entry_bits, groups)),
                "address": Out(data.ArrayLayout(address_bits, blocks)),
                "write": Out(data.ArrayLayout(2, blocks)),
                "filled": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the step counter, the steps' table, and an accumulator for every entry."""
        m = Module()
        steps = self._steps
        count = Signal(range(len(steps)))
        walking = Signal()
        go = Signal()
        last = Signal()  # of the step before this edge
        m.d.comb += [
            go.eq(walking | (self.start & ~last & ~self.filled)),
            self.done.eq(go & (count == len(steps) - 1)),
        ]
        m.d.sync += last.eq(self.done)
        with m.If(go):
            m.d.sync += [walking.eq(~self.done), count.eq(Mux(self.done, 0, count + 1))]
        if self._block:  # which is not read on the edge of a write
            m.d.sync += self.filled.eq(last)
        else:
            m.d.comb += self.filled.eq(last)

        # What a step does goes to the accumulators from a register, and where its word belongs
        # from two.
        control = Signal(data.StructLayout({"change": 1, "down": 1, "clear": 1}))
        lane = Signal.like(self.lane[0])
        address, write = Signal.like(self.address[0]), Signal(2)
        address_q, write_q = Signal.like(address, reset_less=True), Signal(2)
        with m.Switch(count):
            for number, step in enumerate(steps):
                with m.Case(number):
                    m.d.comb += [
                        lane.eq(step.lane or 0),
                        control.down.eq(step.down),
                        control.clear.eq(step.lane is None),
                        address.eq(step.address),
                        write.eq(Cat(*step.writes)),
                    ]
        m.d.comb += control.change.eq(go)
        m.d.sync += [address_q.eq(address), write_q.eq(Mux(go, write, 0))]
        # Reset reaches the accumulators through it, and not by a wire to each of them.
        clears = {"change": 1, "clear": 1}
        held = [own(m, control, f"control_{block}", clears) for block in range(self._blocks)]
        for block in range(self._blocks):
            m.d.comb += [
                self.address[block].eq(own(m, address_q, f"address_{block}")),
                self.write[block].eq(own(m, write_q, f"write_{block}")),
            ]
        for group in range(self._groups):
            m.d.comb += self.lane[group].eq(own(m, lane, f"lane_{group}"))
            sums = []
            for o in range(self._outputs):
                weight = self.weights[group].word_select(o, self._weight_bits)
                control = held[o * self._blocks // self._outputs]
                sums.append(self._entry(m, f"{group}_{o}", weight, control))
            m.d.comb += self.words[group].eq(Cat(sums))
        return m

    def _entry(self, m: Module, name: str, weight: Any, control: Any) -> Signal:
        """Return one accumulator, which is zero between walks."""
        entry = Signal(signed(self._entry_bits), name=f"entry_{name}", reset_less=True)
        chosen = Signal(signed(self._weight_bits), name=f"chosen_{name}")
        m.d.comb += chosen.eq(weight)
        signs = control.down.replicate(self._weight_bits)
        # The bit below the units of both operands makes the carry that completes a negative.
        total = (
            Cat(control.down, entry).as_signed()
            + Cat(control.down, chosen.as_unsigned() ^ signs).as_signed()
        )
        with m.If(control.change & control.clear):
            m.d.sync += entry.eq(0)
        with m.Elif(control.change):
            m.d.sync += entry.eq(total >> 1)
        return entry
