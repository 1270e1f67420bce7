"""From finished accumulators to activations: requantized, and added to what was kept."""

from typing import Any, NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mulfree.engine.accumulators import Accumulators
from mulfree.engine.geometry import Geometry
from mulfree.engine.maps import block_memory
from mulfree.engine.pipeline import delayed, pulses, register
from mulfree.engine.scaler import Scaler


class _Walk(NamedTuple):
    """Where the walk over chunks stands."""

    #: Accumulators are asked for.
    asking: Any
    #: A row's tables begin to be filled.
    filling: Any
    #: Which accumulators of a pixel, and the row that scales them.
    piece: Any
    row: Any


class Drain(wiring.Component):
    """Takes the accumulators of a chunk that is summed up, `scalers` a clock, chunk after chunk.

    Members
    -------
    layer : In
        The layer, held.
    start : In(1)
        Begin a layer.
    fill : In(1)
        All rows of parameters are there, or on their way: fill the scalers' tables.
    summed : In(1)
        One more chunk is summed up.
    freed : Out(1)
        This edge asks for the last accumulators of a chunk.
    bank, pixel : Out
        What to read.
    accs : In
        What was read, `Accumulators.DRAIN` edges later.
    row_write, row_address, row : In
        A row of parameters.
    term_write, term_address, term : In
        An entry of the residual's tables.
    valid, payload : Out
        Finished activations, `Drain.latency` edges after their accumulators were asked for.
    """

    #: Edges from an activation to its sum with a kept one.
    ADD = 4

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        core = geometry.core
        super().__init__(
            {
                "layer": In(geometry.layer_layout),
                "start": In(1),
                "fill": In(1),
                "summed": In(1),
                "freed": Out(1),
                "bank": Out(1),
                "pixel": Out(range(geometry.chunk)),
                "accs": In(data.ArrayLayout(geometry.acc_bits, core.outputs)),
                "row_write": In(1),
                "row_address": In(range(geometry.rows)),
                "row": In(geometry.row_layout),
                "term_write": In(1),
                "term_address": In(core.act_bits),
                "term": In(geometry.term_layout),
                "valid": Out(1),
                "payload": Out(geometry.scalers * core.act_bits),
            }
        )

    @staticmethod
    def latency(geometry: Geometry) -> int:
        """Edges from asking for accumulators to their activations."""
        return Accumulators.DRAIN + 1 + geometry.scaler.latency + Drain.ADD + 1

    def elaborate(self, platform: object) -> Module:
        """Build the walk over chunks, the parameters, scalers, adders, the kept activations."""
        m = Module()
        geometry, layer = self._geometry, self.layer
        walk = self._walk(m)
        ready = Accumulators.DRAIN + 1  # when the accumulators are in front of the scalers
        latency = self.latency(geometry)
        valid = pulses(m, walk.asking, latency, "valid")

        piece = delayed(m, walk.piece, Accumulators.DRAIN, "piece_late")
        pieces = [
            Cat(*(self.accs[p * geometry.scalers + i] for i in range(geometry.scalers)))
            for p in range(geometry.pieces)
        ]
        chosen = Signal(geometry.scalers * geometry.acc_bits)
        with m.Switch(piece):
            for p, accs in enumerate(pieces):
                with m.Case(p):
                    m.d.comb += chosen.eq(accs)
        accs = register(m, chosen, "accs_q")

        rows = block_memory(geometry.row_layout.size, geometry.rows)
        m.submodules.rows = rows
        write, read = rows.write_port(), rows.read_port()
        m.d.comb += [
            write.addr.eq(register(m, self.row_address, "row_address_q")),
            write.data.eq(register(m, self.row, "row_given")),
            write.en.eq(pulses(m, self.row_write, 1, "row_write_q")[1]),
            read.addr.eq(delayed(m, walk.row, ready - 2, "row_late")),
        ]
        parameters = data.View(geometry.row_layout, register(m, read.data, "row_q"))
        fill = pulses(m, walk.filling, ready, "fill_late")[ready]
        piece = register(m, piece, "piece_ready")

        own = []
        for lane in range(geometry.scalers):
            scaler = Scaler(geometry.scaler)
            m.submodules[f"scaler_{lane}"] = scaler
            m.d.comb += [
                scaler.fill.eq(fill),
                scaler.piece.eq(piece),
                scaler.acc.eq(accs.word_select(lane, geometry.acc_bits)),
                scaler.zero_point.eq(layer.zero),
                scaler.low.eq(layer.low),
                scaler.high.eq(layer.high),
                *(
                    scaler.row[name].eq(parameters[f"{name}_{lane}"])
                    for name in geometry.scaler.parameters
                ),
            ]
            own.append(scaler.out)
        at = ready + geometry.scaler.latency
        alone = delayed(m, Cat(*own), self.ADD, "alone")
        finished = alone
        if geometry.keep_words:
            finished = Mux(layer.add, self._sums(m, own, at, valid), alone)
        m.d.comb += [
            self.payload.eq(register(m, finished, "chosen")),
            self.valid.eq(valid[latency]),
        ]
        return m

    def _walk(self, m: Module) -> _Walk:
        """Build the counters.

        The tables of a group are filled before its first accumulators are asked for.
        """
        geometry, layer = self._geometry, self.layer
        waiting = Signal(2)  # chunks that are summed up and not drained
        busy = Signal()
        fills = Signal()
        fill_end = geometry.scaler.fill_clocks - 1
        clock = Signal(range(fill_end + 1), reset_less=True)  # of a row's filling
        left = Signal.like(layer.pixels, reset_less=True)  # of the map, for this group
        piece = Signal(range(max(geometry.pieces, 2)), reset_less=True)
        row, group_row = (
            Signal(range(geometry.rows), name=n, reset_less=True) for n in ("row", "group_row")
        )
        pixel_end, chunk_end = Signal(), Signal()
        group_end = Signal(reset_less=True)  # `left` is 1
        last_piece = Signal.like(piece)
        m.d.sync += last_piece.eq(layer.pieces - 1)
        m.d.comb += [
            busy.eq((waiting != 0) & ~fills),
            pixel_end.eq(piece == last_piece),
            chunk_end.eq(group_end | (self.pixel == geometry.chunk - 1)),
            self.freed.eq(busy & pixel_end & chunk_end),
        ]
        m.d.sync += waiting.eq(waiting + self.summed - self.freed)
        with m.If(busy):
            m.d.sync += [piece.eq(piece + 1), row.eq(row + 1)]
            with m.If(pixel_end):
                m.d.sync += [
                    piece.eq(0),
                    row.eq(group_row),
                    self.pixel.eq(self.pixel + 1),
                    left.eq(left - 1),
                    group_end.eq(left == 2),
                ]
                with m.If(chunk_end):
                    m.d.sync += [self.pixel.eq(0), self.bank.eq(~self.bank)]
                with m.If(group_end):
                    # What is a maximum needs one row for all channels.
                    after = (group_row + Mux(layer.maximum, 0, geometry.pieces))[: len(row)]
                    m.d.sync += [
                        left.eq(layer.pixels),
                        group_end.eq(layer.pixels == 1),
                        row.eq(after),
                        group_row.eq(after),
                        fills.eq(1),
                    ]
        with m.Elif(fills):
            m.d.sync += clock.eq(clock + 1)
            with m.If(clock == fill_end):
                m.d.sync += [clock.eq(0), piece.eq(piece + 1), row.eq(row + 1)]
                with m.If(pixel_end):
                    m.d.sync += [piece.eq(0), row.eq(group_row), fills.eq(0)]
        with m.If(self.start):
            m.d.sync += [
                *(counter.eq(0) for counter in (piece, row, group_row, self.pixel, self.bank)),
                *(state.eq(0) for state in (fills, clock)),
                left.eq(layer.pixels),
                group_end.eq(layer.pixels == 1),
            ]
        with m.If(pulses(m, self.fill, 1, "fill_asked")[1]):  # behind the last row
            m.d.sync += fills.eq(1)
        return _Walk(busy, fills & (clock == 0), piece, row)

    def _sums(self, m: Module, own: list[Any], at: int, valid: list[Any]) -> Any:
        """Return the sums with the kept activations, and keep what the layer is to keep.

        Edges behind the scalers' outputs: 1 and 2 look up the terms, 3 adds, 4 clamps.
        """
        geometry, layer = self._geometry, self.layer
        bits = geometry.core.act_bits
        keep = block_memory(geometry.scalers * bits, geometry.keep_words)
        m.submodules.keep = keep
        kept, write = keep.read_port(), keep.write_port()
        term_write = pulses(m, self.term_write, 1, "term_write_q")[1]
        term_address = register(m, self.term_address, "term_address_q")
        terms_given = register(m, self.term, "terms_given")
        read_at, write_at = (
            Signal(geometry.keep_bits, name=n, reset_less=True) for n in ("read_at", "write_at")
        )
        # Asked for two edges before the layer's own activations are there.
        with m.If(valid[at - 2]):
            m.d.sync += read_at.eq(read_at + 1)
        with m.If(valid[-1]):
            m.d.sync += write_at.eq(write_at + 1)
        with m.If(self.start):
            m.d.sync += [read_at.eq(layer.kept_address), write_at.eq(layer.keep_address)]
        m.d.comb += kept.addr.eq(read_at)
        other = register(m, kept.data, "kept_q")

        sums = []
        for lane in range(geometry.scalers):
            terms = []
            for name, address in (("own", own[lane]), ("kept", other.word_select(lane, bits))):
                table = block_memory(geometry.term_bits, geometry.term_count)
                m.submodules[f"{name}_{lane}"] = table
                fill, read = table.write_port(), table.read_port()
                m.d.comb += [
                    fill.addr.eq(term_address),
                    fill.data.eq(terms_given[name]),
                    fill.en.eq(term_write),
                    read.addr.eq(address),
                ]
                terms.append(register(m, read.data.as_signed(), f"{name}_{lane}_q"))
            total = register(m, (terms[0] + terms[1]) >> bits, f"total_{lane}")
            within = Mux(total > layer.sum_high, layer.sum_high, total)
            sum_ = Mux(total < layer.sum_low, layer.sum_low, within)[:bits]
            sums.append(register(m, sum_, f"sum_{lane}"))
        m.d.comb += [
            write.addr.eq(write_at),
            write.data.eq(self.payload),
            write.en.eq(valid[-1] & layer.keep),
        ]
        return Cat(*sums)
