"""Feature maps in nine banks, from which one clock reads a whole window without conflict.

A map of height × width × channels is cut into slices of `slice` channels, and the word of row y,
column x and slice s lies in bank ``(3·(y mod 3) + (x mod 3) + s) mod 9`` at ``base +
((y//3)·ceil(width/3) + x//3)·slices + s``. Nine taps of a 3 × 3 window of one slice lie in nine
banks, and so do nine consecutive slices of one pixel. No multiplier and no divider is needed:
every number that is taken modulo 3 is counted so.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from mulfree.engine.geometry import BANKS, PLACE_BITS, Geometry
from mulfree.engine.pipeline import delayed, pulses, register


def bank_of(y: int, x: int, slice_: int) -> int:
    """Return the bank of a word."""
    return (3 * (y % 3) + x % 3 + slice_) % BANKS


def address_of(y: int, x: int, slice_: int, width: int, slices: int) -> int:
    """Return the address of a word in its bank, relative to the map's first."""
    return ((y // 3) * -(-width // 3) + x // 3) * slices + slice_


class Walker(wiring.Component):
    """Goes over the pixels of a map in raster order, counting places, residues and addresses.

    Members
    -------
    first, stride, pitch, columns : In
        The first pixel; from one pixel to the next (`y`, `x` places; `ry`, `rx` the same modulo
        3; `ay`, `ax` words for the whole threes); words between rows of three and columns of three;
        the pixels of a row. Held.
    step, recall, save, restart : In(1)
        Go to the next pixel; back to the saved one; save the next one; save the first one.
    at : Out
        The present pixel.
    """

    def __init__(self, geometry: Geometry) -> None:
        words = geometry.map_bits
        self._place = data.StructLayout(
            {
                "y": signed(PLACE_BITS),
                "x": signed(PLACE_BITS),
                "ry": 2,
                "rx": 2,
                "ay": words,
                "ax": words,
                "column": PLACE_BITS - 1,
                "end": 1,  # the row's last
            }
        )
        stride = data.StructLayout({"y": 4, "x": 4, "ry": 2, "rx": 2, "ay": words, "ax": words})
        super().__init__(
            {
                "first": In(self._place),
                "stride": In(stride),
                "pitch": In(data.StructLayout({"y": words, "x": words})),
                "columns": In(PLACE_BITS - 1),
                "step": In(1),
                "recall": In(1),
                "save": In(1),
                "restart": In(1),
                "at": Out(self._place),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the present and the saved place, and the step between them."""
        m = Module()
        at, saved = (Signal(self._place, name=n, reset_less=True) for n in ("here", "saved"))
        first, after = Signal(self._place), Signal(self._place)
        row_end = at.end
        m.d.comb += [
            self.at.eq(at),
            first.eq(self.first),
            first.end.eq(self.columns == 1),
            after.eq(at),
            after.column.eq(at.column + 1),
            after.end.eq(at.column + 2 == self.columns),
        ]
        for axis in "yx":
            residue = Signal(3, name=f"residue_{axis}")
            wraps = Signal(name=f"wraps_{axis}")
            whole = self.stride[f"a{axis}"]
            further = Signal.like(whole, name=f"further_{axis}", reset_less=True)
            m.d.sync += further.eq(whole + self.pitch[axis])
            m.d.comb += [
                residue.eq(at[f"r{axis}"] + self.stride[f"r{axis}"]),
                wraps.eq(residue >= 3),
            ]
            with m.If(row_end if axis == "y" else ~row_end):
                m.d.comb += [
                    after[axis].eq(at[axis] + self.stride[axis]),
                    after[f"r{axis}"].eq(Mux(wraps, residue - 3, residue)),
                    after[f"a{axis}"].eq(at[f"a{axis}"] + Mux(wraps, further, whole)),
                ]
        with m.If(row_end):
            m.d.comb += [after[name].eq(first[name]) for name in ("x", "rx", "ax", "column", "end")]
        with m.If(self.recall):
            m.d.sync += at.eq(saved)
        with m.Elif(self.step):
            m.d.sync += at.eq(after)
        with m.If(self.restart):
            m.d.sync += saved.eq(first)
        with m.Elif(self.save):
            m.d.sync += saved.eq(after)
        return m


class Fetch(wiring.Component):
    """Reads what a tile takes of the pixel that the walker stands on, and puts it in lane order.

    Members
    -------
    layer, tile : In
        The layer, held; the tile, on the edge of the step.
    step, recall, save, restart : In(1)
        As of `Walker`.
    host, host_address : In
        While `host`, every bank reads this address instead.
    address : Out(words of nine banks)
        Where the banks are to read on the next edge.
    word : In(words of nine banks)
        What they have read.
    act : Out(act × lanes)
        Activations, `Fetch.LATENCY` edges after the step.
    """

    #: Edges from a step to its activations.
    LATENCY = 13
    #: Edges from `host_address` to `words`.
    HOST_LATENCY = 4

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        core = geometry.core
        super().__init__(
            {
                "layer": In(geometry.layer_layout),
                "tile": In(geometry.tile_layout),
                "step": In(1),
                "recall": In(1),
                "save": In(1),
                "restart": In(1),
                "host": In(1),
                "host_address": In(geometry.map_bits),
                "address": Out(data.ArrayLayout(geometry.map_bits, BANKS)),
                "word": In(data.ArrayLayout(geometry.word_layout, BANKS)),
                "words": Out(data.ArrayLayout(geometry.word_layout, BANKS)),
                "act": Out(data.ArrayLayout(core.act_shape, core.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the walk, nine addresses, and the way from banks to lanes."""
        m = Module()
        layer = self.layer
        m.submodules.walker = walker = Walker(self._geometry)
        m.d.comb += [
            walker.first.y.eq(layer.y),
            walker.first.x.eq(layer.x),
            walker.first.ry.eq(layer.ry),
            walker.first.rx.eq(layer.rx),
            walker.first.ay.eq(layer.address_y),
            walker.first.ax.eq(layer.address_x),
            walker.stride.y.eq(layer.stride_y),
            walker.stride.x.eq(layer.stride_x),
            walker.stride.ry.eq(layer.step_ry),
            walker.stride.rx.eq(layer.step_rx),
            walker.stride.ay.eq(layer.step_y),
            walker.stride.ax.eq(layer.step_x),
            walker.pitch.y.eq(layer.pitch_y),
            walker.pitch.x.eq(layer.pitch_x),
            walker.columns.eq(layer.columns),
            # The sequencer decides late in its clock.
            *(
                getattr(walker, name).eq(register(m, getattr(self, name), f"{name}_0"))
                for name in ("step", "recall", "save", "restart")
            ),
        ]
        turn = self._addresses(m, walker.at)
        self._lanes(m, turn)
        return m

    def _addresses(self, m: Module, at: Any) -> dict[str, Any]:
        """Build stages 1 to 5, behind a rank of registers; return how the words have to be turned,
        valid with stage 5.
        """
        layer, tile = self.layer, register(m, self.tile, "tile_0")
        words = self._geometry.map_bits

        # 1: the window's first tap.
        first, carry = {}, {}
        for axis in "yx":
            residue = Signal(3, name=f"residue_{axis}")
            m.d.comb += residue.eq(at[f"r{axis}"] + tile[f"r{axis}"])
            over = residue >= 3
            first[axis] = register(m, at[axis] + tile[axis], f"first_{axis}")
            first[f"r{axis}"] = register(m, Mux(over, residue - 3, residue)[:2], f"first_r{axis}")
            carry[axis] = register(m, over, f"carry_{axis}")
        base = register(m, (at.ay + at.ax)[:words], "base_1")
        offset = register(m, tile.address, "offset")
        rotate = register(m, tile.rotate, "rotate_1")

        # 2: which taps exist; how far the nine words are turned.
        exists = Signal(6)
        for place, (axis, size) in enumerate((("y", layer.height), ("x", layer.width))):
            for tap in range(3):
                # A point has one place for all of its taps.
                way = Mux(layer.point, 0, tap)
                where = Signal(signed(PLACE_BITS + 1), name=f"where_{axis}_{tap}")
                m.d.comb += where.eq(first[axis] + way)
                m.d.comb += exists[3 * place + tap].eq(
                    (where >= 0) & (where < size) & layer.taps[3 * place + tap]
                )
        exists = register(m, exists, "exists")
        turned = Signal(5)
        m.d.comb += turned.eq(rotate + Mux(layer.point, 3 * first["ry"] + first["rx"], 0))
        turned = register(m, Mux(turned >= BANKS, turned - BANKS, turned)[:4], "turned_2")
        ry = register(m, Mux(layer.point, 0, first["ry"]), "ry_2")
        rx = register(m, Mux(layer.point, 0, first["rx"]), "rx_2")
        base = register(m, (base + offset)[:words], "base_2")
        extra = Mux(carry["y"], layer.pitch_y, 0) + Mux(carry["x"], layer.pitch_x, 0)
        extra = register(m, extra[:words], "extra")

        # 3: which tap each bank holds: tap p = 3j + i lies in bank (p + turned) mod 9, a row of
        # three further if j < ry, a column of three further if i < rx.
        base = register(m, (base + extra)[:words], "base_3")
        both = register(m, (layer.pitch_y + layer.pitch_x)[:words], "pitch_both")
        ways = []
        for bank in range(BANKS):
            tap = Signal(4, name=f"tap_{bank}")
            row, column = Signal(2, name=f"row_{bank}"), Signal(2, name=f"column_{bank}")
            with m.Switch(turned):
                for turn in range(BANKS):
                    p = (bank - turn) % BANKS
                    with m.Case(turn):
                        m.d.comb += [tap.eq(p), row.eq(p // 3), column.eq(p % 3)]
            ways.append(
                (
                    register(m, tap, f"tap_{bank}_q"),
                    register(m, row < ry, f"further_y_{bank}"),
                    register(m, column < rx, f"further_x_{bank}"),
                )
            )

        # 4, 5: each bank's address.
        base = register(m, Mux(self.host, self.host_address, base), "base_4")
        for bank, (tap, further_y, further_x) in enumerate(ways):
            on = Signal(words, name=f"on_{bank}")
            with m.If(self.host):
                m.d.comb += on.eq(0)
            with m.Elif(layer.point):
                m.d.comb += on.eq(tap)
            with m.Else():
                with m.If(further_y & further_x):
                    m.d.comb += on.eq(both)
                with m.Elif(further_y):
                    m.d.comb += on.eq(layer.pitch_y)
                with m.Elif(further_x):
                    m.d.comb += on.eq(layer.pitch_x)
            on = register(m, on, f"on_{bank}_q")
            address = register(m, (base + on)[:words], f"address_{bank}")
            m.d.comb += self.address[bank].eq(address)
        return {
            "turned": delayed(m, turned, 3, "turned"),
            "ry": delayed(m, ry, 3, "ry"),
            "rx": delayed(m, rx, 3, "rx"),
            "exists": delayed(m, exists, 3, "exists"),
        }

    def _lanes(self, m: Module, turn: dict[str, Any]) -> None:
        """Build stages 6 to 12: the banks read (6), then registers between turns by threes."""
        words = [
            register(m, self.word[bank].as_value(), f"word_{bank}") for bank in range(BANKS)
        ]  # stage 7
        m.d.comb += self.words.eq(Cat(*words))
        turned = delayed(m, turn["turned"], 1, "turned_6")
        threes = register(m, Mux(turned >= 6, 2, Mux(turned >= 3, 1, 0)), "threes")
        ones = Mux(turned >= 6, turned - 6, Mux(turned >= 3, turned - 3, turned))[:2]
        ones = delayed(m, ones, 2, "ones")
        ry = delayed(m, turn["ry"], 4, "ry_lanes")
        rx = delayed(m, turn["rx"], 5, "rx_lanes")
        exists = delayed(m, turn["exists"], 6, "exists_lanes")

        def turned_by(by: Any, source: Any, name: str) -> list[Any]:
            chosen = []
            for place in range(BANKS):
                word = Signal(self._geometry.word_layout.size, name=f"{name}_{place}_in")
                with m.Switch(by):
                    for way in range(3):
                        with m.Case(*([way] if way < 2 else [2, 3])):
                            m.d.comb += word.eq(words[source(place, way)])
                chosen.append(register(m, word, f"{name}_{place}"))
            return chosen

        words = turned_by(threes, lambda p, way: (p + 3 * way) % BANKS, "turned_threes")  # 8
        words = turned_by(ones, lambda p, way: (p + way) % BANKS, "turned_ones")  # 9
        words = turned_by(ry, lambda p, way: 3 * ((p // 3 + way) % 3) + p % 3, "rows")  # 10
        words = turned_by(rx, lambda p, way: 3 * (p // 3) + (p % 3 + way) % 3, "columns")  # 11
        pad = Cat(*[self.layer.pad] * self._geometry.slice)
        lanes = [
            register(m, Mux(exists[p // 3] & exists[3 + p % 3], words[p], pad), f"lanes_{p}")
            for p in range(BANKS)
        ]  # 12
        m.d.comb += self.act.eq(Cat(*lanes))


class Largest(wiring.Component):
    """The largest activation of each channel among the nine taps.

    Members
    -------
    act : In(act × lanes)
    largest : Out(act × slice)
        `Largest.LATENCY` edges later.
    """

    LATENCY = 4

    def __init__(self, geometry: Geometry) -> None:
        self._slice = geometry.slice
        core = geometry.core
        super().__init__(
            {
                "act": In(data.ArrayLayout(core.act_shape, core.lanes)),
                "largest": Out(data.ArrayLayout(core.act_shape, geometry.slice)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build a tree of comparisons for each channel, a register behind each level."""
        m = Module()
        for channel in range(self._slice):
            values = [self.act[tap * self._slice + channel] for tap in range(BANKS)]
            for level in range(self.LATENCY):
                name = f"largest_{channel}_{level}"
                pairs = list(zip(values[::2], values[1::2], strict=False))
                rest = values[2 * len(pairs) :]
                values = [
                    register(m, Mux(a > b, a, b), f"{name}_{i}") for i, (a, b) in enumerate(pairs)
                ] + [register(m, value, f"{name}_rest") for value in rest]
            m.d.comb += self.largest[channel].eq(values[0])
        return m


class Writer(wiring.Component):
    """Writes a layer's outputs into its target map, piece by piece in the order they drain.

    For each group of slices, for each pixel in raster order, for each of the pixel's pieces:
    `scalers` activations, which are `piece_slices` words for as many banks.

    Members
    -------
    layer : In
        The layer, held.
    start : In(1)
        Begin a layer.
    valid, payload : In
        A piece.
    enable, address, data : Out
        For each bank.
    done : Out(1)
        The layer's last piece is written.
    """

    #: Edges from a piece to the first one that reads it.
    LATENCY = 5

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        super().__init__(
            {
                "layer": In(geometry.layer_layout),
                "start": In(1),
                "valid": In(1),
                "payload": In(geometry.scalers * geometry.core.act_bits),
                "enable": Out(BANKS),
                "address": Out(data.ArrayLayout(geometry.map_bits, BANKS)),
                "data": Out(data.ArrayLayout(geometry.word_layout, BANKS)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the walk, the counters of slices, and each bank's choice among the words."""
        m = Module()
        geometry, layer = self._geometry, self.layer
        words, many = geometry.map_bits, geometry.piece_slices
        m.submodules.walker = walker = Walker(geometry)
        begin = delayed(m, self.start, 1, "begin")  # when the saved place is the first
        piece = Signal.like(layer.pieces, reset_less=True)
        left = Signal.like(layer.pixels, reset_less=True)  # of the group
        groups = Signal.like(layer.groups, reset_less=True)  # left
        group_slice, slice_ = (
            Signal.like(layer.to_slices, name=n, reset_less=True) for n in ("group_slice", "slice_")
        )
        group_bank, bank = (Signal(4, name=n, reset_less=True) for n in ("group_bank", "bank"))
        most = geometry.core.outputs // geometry.slice + many
        within = Signal(range(most), reset_less=True)
        pixel_end = Signal()
        group_end, last_group = (
            Signal(name=n, reset_less=True) for n in ("group_end", "last_group")
        )
        last_piece = Signal.like(piece)
        m.d.sync += [last_piece.eq(layer.pieces - 1), last_group.eq(groups == 1)]
        m.d.comb += [
            pixel_end.eq(piece == last_piece),
            walker.first.ay.eq(layer.to_address),
            walker.stride.eq(0),
            walker.stride.ry.eq(1),
            walker.stride.rx.eq(1),
            walker.pitch.y.eq(layer.to_pitch_y),
            walker.pitch.x.eq(layer.to_pitch_x),
            walker.columns.eq(layer.columns),
            walker.restart.eq(self.start),
            walker.step.eq(self.valid & pixel_end),
            # Every group goes over the same pixels.
            walker.recall.eq(begin | (self.valid & pixel_end & group_end)),
        ]

        def wrapped(bank: Any, on: Any) -> Any:
            total = bank + on
            return Mux(total >= BANKS, total - BANKS, total)[:4]

        after_group, after_bank = Signal.like(group_slice), Signal(4)
        m.d.comb += [
            after_group.eq(group_slice + layer.group_slices),
            after_bank.eq(wrapped(group_bank, layer.group_rotate)),
        ]
        with m.If(self.valid):
            m.d.sync += [
                piece.eq(piece + 1),
                slice_.eq(slice_ + many),
                bank.eq(wrapped(bank, many % BANKS)),
                within.eq(within + many),
            ]
            with m.If(pixel_end):
                m.d.sync += [
                    piece.eq(0),
                    within.eq(0),
                    slice_.eq(group_slice),
                    bank.eq(group_bank),
                    left.eq(left - 1),
                    group_end.eq(left == 2),
                ]
                with m.If(group_end):
                    m.d.sync += [
                        left.eq(layer.pixels),
                        group_end.eq(layer.pixels == 1),
                        groups.eq(groups - 1),
                        slice_.eq(after_group),
                        bank.eq(after_bank),
                        group_slice.eq(after_group),
                        group_bank.eq(after_bank),
                    ]
        with m.If(self.start):
            m.d.sync += [
                *(counter.eq(0) for counter in (piece, group_slice, slice_, within)),
                left.eq(layer.pixels),
                group_end.eq(layer.pixels == 1),
                groups.eq(layer.groups),
                group_bank.eq(layer.to_rotate),
                bank.eq(layer.to_rotate),
            ]

        # 1: place and bank. 2: address. 3: one more for each word behind the first. 4: banks.
        at = walker.at
        last = self.valid & pixel_end & group_end & last_group
        base = register(m, (at.ay + at.ax)[:words], "base_1")
        here = register(m, wrapped(bank, 3 * at.ry + at.rx), "bank_1")
        slice_1 = register(m, slice_, "slice_1")
        exists = [
            register(
                m,
                self.valid & (slice_ + way < layer.to_slices) & (within + way < layer.group_slices),
                f"exists_{way}_1",
            )
            for way in range(many)
        ]
        base = register(m, (base + slice_1)[:words], "base_2")
        here = delayed(m, here, 2, "bank_3")
        exists = [delayed(m, exists[way], 2, f"exists_{way}_3") for way in range(many)]
        addresses = [register(m, (base + way)[:words], f"address_{way}") for way in range(many)]
        payload = delayed(m, self.payload, 3, "payload")
        size = geometry.word_layout.size
        for target in range(BANKS):
            enable = Signal(name=f"enable_{target}")
            address = Signal(words, name=f"address_of_{target}")
            word = Signal(size, name=f"word_of_{target}")
            for way in range(many):
                with m.If(here == (target - way) % BANKS):
                    m.d.comb += [
                        enable.eq(exists[way]),
                        address.eq(addresses[way]),
                        word.eq(payload.word_select(way, size)),
                    ]
            m.d.comb += [
                self.enable[target].eq(register(m, enable, f"enable_{target}_q")),
                self.address[target].eq(register(m, address, f"address_of_{target}_q")),
                self.data[target].eq(register(m, word, f"word_of_{target}_q")),
            ]
        m.d.comb += self.done.eq(pulses(m, last, self.LATENCY, "last")[-1])
        return m


class MapMemory(wiring.Component):
    """The nine banks.

    Members
    -------
    read_address : In, word : Out
        A word of each bank, one edge after its address.
    enable, address, data : In
        What each bank writes on this edge.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        addresses = data.ArrayLayout(geometry.map_bits, BANKS)
        super().__init__(
            {
                "read_address": In(addresses),
                "word": Out(data.ArrayLayout(geometry.word_layout, BANKS)),
                "enable": In(BANKS),
                "address": In(addresses),
                "data": In(data.ArrayLayout(geometry.word_layout, BANKS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memories."""
        m = Module()
        for bank in range(BANKS):
            memory = block_memory(self._geometry.word_layout.size, self._geometry.map_words)
            m.submodules[f"bank_{bank}"] = memory
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [
                read.addr.eq(self.read_address[bank]),
                self.word[bank].as_value().eq(read.data),
                write.addr.eq(self.address[bank]),
                write.data.eq(self.data[bank]),
                write.en.eq(self.enable[bank]),
            ]
        return m


def block_memory(width: int, depth: int) -> Memory:
    """Return a memory for block RAM, whose user never reads where it writes on the same edge.

    Synthesis cannot see that, and would build logic for the case around every block. The boards'
    flow passes it on for memories with one or two ports that read, and no more.
    """
    attributes = {"ram_style": "block", "no_rw_check": 1}
    return Memory(shape=width, depth=depth, init=[], attrs=attributes)
