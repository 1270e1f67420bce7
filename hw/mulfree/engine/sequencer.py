"""Reads the program and runs its layers: steps, and gaps in which tiles change."""

from contextlib import nullcontext
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mulfree.engine.geometry import Geometry
from mulfree.engine.pipeline import pulses, register
from mulfree.engine.schedule import PROGRAM_LATENCY, Delays


class Sequencer(wiring.Component):
    """Walks through layers, groups, chunks, tiles and pixels.

    The program is, for each layer: its descriptor; its rows of parameters; with `add`, the entries
    of the residual's tables; then for each group each tile, a head, and weights unless it shares
    those of the tile before. Each of these records begins with a new word.

    Members
    -------
    start, busy
        Begin at the program's word 0; at work.
    address : Out, word : In
        The program, `PROGRAM_LATENCY` edges from address to word.
    asking : Out(1), ready : In(1), seek : Out(1), only with a streamed program
        `word` comes `PROGRAM_LATENCY` edges after a clock with `asking` and `ready`. It is the one
        at `address` after a `seek`, and then one after the other. While asks are refused nothing
        goes on that counts on their words. `asking` depends on neither `ready` nor `word`.
    layer, tile : Out
        The present ones.
    begin : Out(1)
        A layer begins.
    loaded : Out(1)
        The last of its parameters and tables are asked for.
    row_write, row_address, row, term_write, term_address, term : Out
        Parameters and tables on their way.
    weight_valid, weight : Out
        Weights on their way.
    weight_room : In(1)
        More weights may be asked for.
    step, recall, save, restart : Out(1)
        As of `Walker`.
    first, bank, pixel, retire, chunk_end, drains : Out
        What goes with a step. `drains` is the first step of a chunk's last tile: each of the
        tile's steps completes a pixel, and none drains in less than a clock.
    freed, written : In(1)
        A chunk has left its accumulators; the layer's last output is written.
    waits : Out(1)
        A chunk waits for accumulators.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        asks = {"asking": Out(1), "ready": In(1), "seek": Out(1)}
        super().__init__(
            {
                "start": In(1),
                "busy": Out(1),
                "address": Out(geometry.program_bits),
                "word": In(geometry.word_bits),
                "layer": Out(geometry.layer_layout),
                "tile": Out(geometry.tile_layout),
                "begin": Out(1),
                "loaded": Out(1),
                "row_write": Out(1),
                "row_address": Out(range(geometry.rows)),
                "row": Out(geometry.row_layout),
                "term_write": Out(1),
                "term_address": Out(geometry.core.act_bits),
                "term": Out(geometry.term_layout),
                "weight_valid": Out(1),
                "weight": Out(geometry.load_bits),
                "weight_room": In(1),
                "step": Out(1),
                "recall": Out(1),
                "save": Out(1),
                "restart": Out(1),
                "first": Out(1),
                "bank": Out(1),
                "pixel": Out(range(geometry.chunk)),
                "retire": Out(1),
                "chunk_end": Out(1),
                "drains": Out(1),
                "freed": In(1),
                "written": In(1),
                "waits": Out(1),
                **(asks if geometry.streamed else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the reader, the loader and the walk."""
        m = Module()
        geometry = self._geometry
        #: What a word that is asked for belongs to.
        kinds = ("layer", "row", "term", "head", "weight")
        asks = {kind: Signal(name=f"asks_{kind}") for kind in kinds}
        ends = Signal()  # with the last word of a record
        given = {kind: ask & self.ready if geometry.streamed else ask for kind, ask in asks.items()}
        arrived = {
            kind: pulses(m, given[kind], PROGRAM_LATENCY, f"{kind}_due")[-1] for kind in kinds
        }
        ended = pulses(m, ends, PROGRAM_LATENCY, "ends_due")[-1]
        pc = Signal(geometry.program_bits, reset_less=True)
        asked = Cat(given.values()).any()
        if geometry.streamed:
            m.d.comb += self.asking.eq(Cat(asks.values()).any())
        else:
            m.d.comb += self.address.eq(pc)
        with m.If(~self.busy):
            m.d.sync += pc.eq(0)
        with m.Elif(asked):
            m.d.sync += pc.eq(pc + 1)

        head = self._records(m, arrived, ended)
        swap, ask, rewind, over, new, fresh = (
            Signal(name=n) for n in ("swap", "ask", "rewind", "over", "new", "fresh")
        )
        tile = Signal(geometry.tile_layout, reset_less=True)
        m.d.comb += self.tile.eq(tile)
        with m.If(swap):
            m.d.sync += tile.eq(head)
        m.d.comb += self.recall.eq(swap)
        all_asked = self._loader(m, pc, asks, ends, ask, rewind, over, new, fresh)
        self._walk(m, asks, ends, ask, swap, rewind, over, new, head, fresh, all_asked)
        with m.If(self.begin):
            m.d.sync += self.bank.eq(0)
        with m.Elif(self.step & self.chunk_end):
            m.d.sync += self.bank.eq(~self.bank)
        return m

    def _unrefused(self, m: Module) -> Any:
        """Open a block for clocks in which no ask is refused: all of them, with a memory."""
        if not self._geometry.streamed:
            return nullcontext()
        return m.If(self.ready | ~self.asking)

    def _records(self, m: Module, arrived: dict[str, Any], ended: Any) -> Signal:
        """Gather words to records, and send each where it belongs; return the next tile's head."""
        geometry = self._geometry
        layouts = {
            "layer": geometry.layer_layout,
            "row": geometry.row_layout,
            "term": geometry.term_layout,
            "head": geometry.tile_layout,
        }
        size = geometry.word_bits
        most = max(geometry.words(layout) for layout in layouts.values())
        gathered = Signal(most * size, reset_less=True)
        together = Cat(gathered, self.word)[size:]
        with m.If(Cat(arrived[kind] for kind in layouts).any()):
            m.d.sync += gathered.eq(together)
        record = {}
        for kind, layout in layouts.items():
            begin = (most - geometry.words(layout)) * size
            record[kind] = together[begin : begin + layout.size]
        head = Signal(geometry.tile_layout, reset_less=True)
        layer = Signal(geometry.layer_layout, reset_less=True)
        m.d.comb += self.layer.eq(layer)
        with m.If(arrived["layer"] & ended):
            m.d.sync += layer.eq(record["layer"])
        with m.If(arrived["head"] & ended):
            m.d.sync += head.eq(record["head"])
        for kind, write, address, out in (
            ("row", self.row_write, self.row_address, self.row),
            ("term", self.term_write, self.term_address, self.term),
        ):
            m.d.sync += write.eq(arrived[kind] & ended)
            m.d.comb += out.eq(register(m, record[kind], f"{kind}_given"))
            with m.If(self.begin):
                m.d.sync += address.eq(0)
            with m.Elif(write):
                m.d.sync += address.eq(address + 1)
        m.d.sync += self.weight_valid.eq(arrived["weight"])
        m.d.comb += self.weight.eq(register(m, self.word[: geometry.load_bits], "weight_given"))
        return head

    def _loader(
        self, m: Module, pc: Signal, asks: dict[str, Signal], ends: Signal,
        ask: Signal, rewind: Signal, over: Signal, new: Signal, fresh: Signal,
    ) -> Value | None:  # fmt: skip
        """Ask for the next tile's head and weights.

        At `ask`: `rewind` says that the next tile is the group's first one again, `new` that it is
        the next group's, `over` that there is none in this layer, `fresh` that it comes with
        weights. One more may be asked for before the former one is done.

        Return whether all of the next tile is asked for; None where time alone says so.
        """
        geometry = self._geometry
        heads, beats = geometry.words(geometry.tile_layout), geometry.core.load_beats
        group_pc = Signal.like(pc)
        count = Signal(range(max(beats, heads)), reset_less=True)
        asked = Signal()  # and not begun
        back, starts, weights, loads = (
            Signal(name=n, reset_less=True) for n in ("back", "starts", "weights", "loads")
        )
        begin = Signal()
        with m.If(ask & ~over):
            m.d.sync += [back.eq(rewind), starts.eq(new), weights.eq(fresh)]
        m.d.sync += asked.eq((ask & ~over) | (asked & ~begin))
        with m.FSM(name="loader") as fsm:
            with m.State("idle"):
                m.d.comb += begin.eq(asked)
                with m.If(asked):
                    m.d.sync += [count.eq(0), loads.eq(weights)]
                    with m.If(back):
                        m.d.sync += pc.eq(group_pc)
                    with m.If(starts):
                        m.d.sync += group_pc.eq(pc)
                    m.next = "head"
            with m.State("head"):
                m.d.comb += [asks["head"].eq(1), ends.eq(count == heads - 1)]
                with self._unrefused(m):
                    m.d.sync += count.eq(count + 1)
                    with m.If(ends):
                        m.d.sync += count.eq(0)
                        m.next = "idle"
                        with m.If(loads):
                            m.next = "weights"
            with m.State("weights"):
                m.d.comb += asks["weight"].eq(self.weight_room)
                with self._unrefused(m), m.If(self.weight_room):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == beats - 1):
                        m.next = "idle"
        if not geometry.streamed:
            return None
        m.d.comb += [
            self.seek.eq((self.start & ~self.busy) | (begin & back)),
            self.address.eq(Mux(self.busy, group_pc, 0)),
        ]
        return fsm.ongoing("idle") & ~asked

    def _walk(
        self, m: Module, asks: dict[str, Signal], ends: Signal, ask: Signal, swap: Signal,
        rewind: Signal, over: Signal, new: Signal, head: Any, fresh: Signal,
        all_asked: Value | None,
    ) -> None:  # fmt: skip
        """Go through layers, groups, chunks, tiles and pixels; ask for each tile in time.

        The clock of a gap and `since` are there for weights to reach the core. Both stand still
        while the loader's asks are refused, and no tile changes before all of the next one is
        asked for: whatever delays its words delays it as much.
        """
        geometry, layer = self._geometry, self.layer
        delays = Delays.of(geometry)
        sizes = {
            "layer": geometry.words(geometry.layer_layout),
            "row": geometry.words(geometry.row_layout),
            "term": geometry.words(geometry.term_layout),
        }
        words = Signal(range(max(sizes.values()) + PROGRAM_LATENCY + 1))
        records = Signal(max(len(self.row_address), geometry.core.act_bits) + 1)
        clock = Signal(range(delays.gap), reset_less=True)  # of the gap
        since = Signal(range(delays.load + 1), reset_less=True)  # the next tile was asked for
        loads = Signal(reset_less=True)  # that tile comes with weights
        tile = Signal.like(layer.tiles, reset_less=True)
        group = Signal.like(layer.groups, reset_less=True)
        left = Signal.like(layer.pixels, reset_less=True)  # of the map, from the chunk's first on
        free = Signal(2, init=2)  # sets of accumulators
        take = Signal()
        m.d.sync += free.eq(free - take + self.freed)

        group_end, layer_end, pixel_end = Signal(), Signal(), Signal()
        #: This chunk is the map's last, and its last pixel; the same of the map's first chunk and
        #: of the next one. A chunk's first step is next: `starts`.
        map_end, ends_first, ends_next, tile_end, single, last_group, starts = (
            Signal(name=n, reset_less=True)
            for n in (
                "map_end", "ends_first", "ends_next", "tile_end", "single", "last_group", "starts",
            )
        )  # fmt: skip
        last_pixel, last_first, last_next = (
            Signal.like(self.pixel, name=n, reset_less=True)
            for n in ("last_pixel", "last_first", "last_next")
        )
        rest = Signal.like(left)  # behind this chunk
        last_tile, group_count = Signal.like(tile), Signal.like(group)
        m.d.comb += [
            group_end.eq(tile_end & map_end),
            layer_end.eq(group_end & last_group),
            pixel_end.eq(self.pixel == last_pixel),
            self.first.eq(tile == 0),
        ]
        # Tiles and groups change in gaps, which are long enough for a register or two.
        m.d.sync += [
            single.eq(layer.tiles == 1),
            last_tile.eq(layer.tiles - 1),
            tile_end.eq(tile == last_tile),
            group_count.eq(layer.groups - 1),
            last_group.eq(group == group_count),
        ]
        # A chunk that is not the map's last has four pixels at least.
        for end, last, pixels in (
            (ends_first, last_first, layer.pixels),
            (ends_next, last_next, rest),
        ):
            less = pixels <= geometry.chunk
            m.d.sync += [end.eq(less), last.eq(Mux(less, pixels, geometry.chunk) - 1)]
        m.d.sync += rest.eq(left - geometry.chunk)
        wait = Mux(loads, delays.load, delays.empty_load)
        with self._unrefused(m):
            m.d.sync += since.eq(Mux(ask, 1, since + (since != wait)))
        with m.If(ask):
            m.d.sync += loads.eq(fresh)

        def read(kind: str, following: str, count: Any = None) -> None:
            """Ask for the words of one record or several; then wait, if it is one, until it is
            there.
            """
            size = sizes[kind]
            with self._unrefused(m):
                m.d.sync += words.eq(words + 1)
            m.d.comb += ends.eq(words == size - 1)
            if count is None:
                m.d.comb += asks[kind].eq(words < size)
                with m.If(words == size + PROGRAM_LATENCY - 1):
                    m.d.sync += words.eq(0)
                    m.next = following
            else:
                m.d.comb += asks[kind].eq(1)
                with self._unrefused(m), m.If(words == size - 1):
                    m.d.sync += [words.eq(0), records.eq(records + 1)]
                    with m.If(records == count - 1):
                        m.d.sync += records.eq(0)
                        m.next = following

        with m.FSM(name="walk") as fsm:
            with m.State("idle"), m.If(self.start):
                m.next = "layer"
            with m.State("layer"):
                read("layer", "begin")
            with m.State("begin"):
                m.d.comb += [self.begin.eq(1), self.restart.eq(1)]
                m.d.sync += [
                    *(counter.eq(0) for counter in (tile, group, self.pixel)),
                    left.eq(layer.pixels),
                    starts.eq(1),
                ]
                m.next = "row"
            with m.State("row"):
                read("row", "term", layer.rows)
                last = (words == sizes["row"] - 1) & (records == layer.rows - 1)
                with self._unrefused(m), m.If(last & ~layer.add):
                    m.next = "first tile"
            with m.State("term"):
                read("term", "first tile", geometry.term_count)
            with m.State("first tile"):
                m.d.comb += [self.loaded.eq(1), ask.eq(1), new.eq(1), fresh.eq(layer.weights)]
                m.d.sync += [clock.eq(0), map_end.eq(ends_first), last_pixel.eq(last_first)]
                m.next = "gap"
            with m.State("gap"):
                last = Mux(loads, delays.gap - 1, delays.empty_gap - 1)
                with self._unrefused(m):
                    m.d.sync += clock.eq(clock + (clock != last))
                turns = (clock == last) & (since == wait)
                with m.If(turns if all_asked is None else turns & all_asked):
                    m.d.comb += [
                        swap.eq(1),
                        ask.eq(1),
                        new.eq(tile_end & (map_end | single)),
                        # A single tile serves every chunk: the next one is the next group's.
                        over.eq(Mux(single, last_group, layer_end)),
                        rewind.eq(tile_end & ~map_end & ~single),
                        fresh.eq(layer.weights & head.last),
                    ]
                    m.next = "steps"
            with m.State("steps"):
                m.d.comb += [
                    self.step.eq(~starts | (free != 0)),
                    self.waits.eq(~self.step),
                    take.eq(starts & self.step),
                ]
                m.d.sync += clock.eq(0)
                with m.If(self.step & pixel_end):
                    m.next = "gap"
                    with m.If(layer_end):
                        m.next = "written"
                    with m.Elif(tile_end & ~map_end & single):
                        m.next = "steps"
                with m.If(self.step):
                    m.d.sync += [
                        self.pixel.eq(self.pixel + 1),
                        starts.eq(pixel_end & tile_end),
                    ]
                    with m.If(pixel_end):
                        m.d.sync += [self.pixel.eq(0), tile.eq(tile + 1)]
                        with m.If(tile_end):
                            m.d.sync += [
                                tile.eq(0),
                                left.eq(rest),
                                map_end.eq(ends_next),
                                last_pixel.eq(last_next),
                            ]
                        with m.If(group_end):
                            m.d.sync += [
                                group.eq(group + 1),
                                left.eq(layer.pixels),
                                map_end.eq(ends_first),
                                last_pixel.eq(last_first),
                            ]
                m.d.comb += [
                    self.chunk_end.eq(pixel_end & tile_end),
                    self.drains.eq((self.pixel == 0) & tile_end),
                    self.save.eq(self.step & self.chunk_end & ~map_end),
                    self.restart.eq(self.step & group_end & pixel_end),
                    self.retire.eq(
                        pixel_end & layer.weights & self.tile.last & (~single | map_end)
                    ),
                ]
            with m.State("written"), m.If(self.written):
                m.next = "layer"
                with m.If(layer.last):
                    m.next = "idle"
        m.d.comb += self.busy.eq(~fsm.ongoing("idle"))
