"""Bit-plane array: a Walsh-Hadamard crossbar that keeps one digit of each signed bit plane.

The digital equivalent of an ADC-free crossbar: inputs are sign-magnitude, plane b has the digits
d ∈ {−1, 0, +1}, a row keeps ``o_b = sign(Σ H·d)`` only, and the result is ``S = Σ o_b · 2^b``,
soft-thresholded by the row's own T. A row whose result can no longer leave ±T stops; the array
stops when no row is left (arXiv 2309.01771; the rule is written out in `Row`).
"""

from dataclasses import dataclass
from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree.spec import Spec, SpecError, flag, integer


@dataclass(frozen=True, kw_only=True)
class BitPlaneSpec(Spec):
    """A crossbar of one or several tiles that processes signed bit planes."""

    unit: ClassVar[str] = "bitplane"

    rows: int = integer(16, 1, 128, "outputs of a tile")
    columns: int = integer(16, 1, 128, "inputs of a tile")
    tiles: int = integer(1, 1, 16, "tiles that can be stitched, a power of two")
    planes: int = integer(8, 1, 15, "bit planes: magnitude bits of an input, its sign beside them")
    exact: bool = flag(False, "keep each plane's whole row sum instead of its sign")
    counter_bits: int = integer(32, 8, 64, "width of the work counters, which wrap")

    def check(self) -> None:
        """Check that tiles can be stitched."""
        if self.tiles & (self.tiles - 1):
            raise SpecError(f"tiles must be a power of two, not {self.tiles}")
        square = self.rows == self.columns and not self.rows & (self.rows - 1)
        if self.tiles > 1 and not square:
            shape = f"{self.rows} x {self.columns}"
            raise SpecError(
                f"rows and columns of stitched tiles must be one power of two, not {shape}"
            )

    @property
    def levels(self) -> int:
        """Add and subtract levels that stitch the tiles: log2 of their number."""
        return self.tiles.bit_length() - 1

    @property
    def inputs(self) -> int:
        """Inputs of a vector, over all tiles."""
        return self.tiles * self.columns

    @property
    def outputs(self) -> int:
        """Rows, over all tiles."""
        return self.tiles * self.rows

    @property
    def act_bits(self) -> int:
        """Width of an input, two's complement; its magnitude saturates at ``2^planes − 1``."""
        return self.planes + 1

    def weight_of_plane(self, merge: int = 0) -> int:
        """Return the most that a plane adds to a row, in units of the plane's 2^b."""
        return self.columns << merge if self.exact else 1

    @property
    def full_scale(self) -> int:
        """Largest |S|; a threshold this large silences its row."""
        return self.weight_of_plane(self.levels) * ((1 << self.planes) - 1)

    @property
    def threshold_bits(self) -> int:
        """Width of a row's threshold, unsigned."""
        return self.full_scale.bit_length()

    @property
    def result_bits(self) -> int:
        """Width of a result, two's complement."""
        return self.full_scale.bit_length() + 1

    def component(self) -> "BitPlane":
        """Build the array."""
        return BitPlane(self)


class Row(wiring.Component):
    """One row behind the crossbar: Horner sum, early termination, soft threshold.

    After the planes P−1…b the row holds ``s = S >> b`` (exactly, the planes below b are still to
    come) and stops when ``|S| + g·(2^b − 1) ≤ T``, where one plane adds at most ``g·2^b``. With ``S
    = s·2^b`` this is ``|s| + g ≤ (T + g) >> b``: the right-hand side grows by one bit of ``T + g``
    a plane, so a shift register stands where the formula has a variable shift. From there on
    ``|S|`` cannot leave T, whatever the planes bring, and the row's output is 0. A row with T at
    full scale stops before its first plane.

    Members
    -------
    load : In(1)
        This edge begins a vector. May coincide with the last `step` of the one before.
    threshold : In(spec.threshold_bits)
        T; stable from `load` until the result is taken.
    weight : In(range)
        g, read with `load`.
    step, first : In(1), In(1)
        This edge takes a plane; it is the vector's first.
    digit : In(signed)
        The row sum of the plane, or its sign.
    active : Out(1)
        The row works on the plane of this edge.
    stays : Out(1)
        The row will still be active after this edge's step.
    result : Out(signed(spec.result_bits))
        S_T(S) after the last step, until the next `first`.
    """

    def __init__(self, spec: BitPlaneSpec) -> None:
        self.spec = spec
        self._top = spec.weight_of_plane(spec.levels)
        super().__init__(
            {
                "load": In(1),
                "threshold": In(spec.threshold_bits),
                "weight": In(range(self._top + 1)),
                "step": In(1),
                "first": In(1),
                "digit": In(Shape.cast(range(-self._top, self._top + 1))),
                "active": Out(1),
                "stays": Out(1),
                "result": Out(signed(spec.result_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the row."""
        m = Module()
        spec = self.spec
        planes = spec.planes
        # |s| + g reaches g·2^planes at most, as does T + g.
        width = (self._top << planes).bit_length()

        total = Signal(spec.result_bits)  # s, two's complement
        limit = Signal(
            width + planes
        )  # T + g, of which the bits above `planes` have been shifted in
        s = Signal(signed(spec.result_bits))
        m.d.comb += s.eq(Mux(self.first, 0, total << 1) + self.digit)
        magnitude = Signal(spec.result_bits)
        m.d.comb += magnitude.eq(Mux(s < 0, -s, s))
        shifted = Signal.like(limit)
        m.d.comb += [
            shifted.eq(limit << 1),
            self.stays.eq(self.active & (magnitude + self._weight(m) > shifted[planes:])),
        ]
        with m.If(self.step):
            m.d.sync += [
                limit.eq(shifted),
                total.eq(Mux(self.stays, s, 0)),  # a stopped row's 0 is its result
                self.active.eq(self.stays),
            ]
        start = Signal(width)
        m.d.comb += start.eq(self.threshold + self.weight)
        with m.If(self.load):
            m.d.sync += [limit.eq(start), self.active.eq(self.weight > start[planes:])]

        final = total.as_signed()
        with m.If(final < 0):
            m.d.comb += self.result.eq(final + self.threshold)
        with m.Elif(final > 0):
            m.d.comb += self.result.eq(final - self.threshold)
        return m

    def _weight(self, m: Module) -> Value:
        """Return g as it was at `load`; a constant where it cannot change."""
        if not self.spec.exact or self.spec.tiles == 1:
            return Value.cast(self._top)
        held = Signal.like(self.weight)
        with m.If(self.load):
            m.d.sync += held.eq(self.weight)
        return held


def _wires(m: Module, values: list[Value], name: str) -> list[Value]:
    """Return the values as wires: what is used several times is written once in the Verilog."""
    wires: list[Value] = []
    for i, value in enumerate(values):
        wire = Signal(value.shape(), name=f"{name}_{i}")
        m.d.comb += wire.eq(value)
        wires.append(wire)
    return wires


def butterflies(m: Module, values: list[Value], levels: range, name: str) -> list[Value]:
    """Return the values after add-and-subtract levels over the given bits of their index."""
    for level in levels:
        span = 1 << level
        changed = [
            values[i & ~span] - values[i] if i & span else values[i] + values[i | span]
            for i in range(len(values))
        ]
        values = _wires(m, changed, f"{name}_level{level}")
    return values


class BitPlane(wiring.Component):
    """The array: crossbar tiles, stitching levels, rows, control and counters.

    A vector occupies the array for as many clocks as its slowest row needs planes (at least one);
    the next one begins on the clock after. Its results appear at `result` two edges after its last
    plane.

    Members
    -------
    act : In(stream of signed(planes + 1) × inputs)
        Vectors, the inputs of tile 0 in the low bits.
    mode : In(struct of merge and share), several tiles only
        How the tiles are stitched, read with each vector. ``2^merge`` neighbouring tiles add their
        row sums before the comparator and make one transform of ``columns · 2^merge`` points
        (row-wise); ``2^share`` neighbouring transforms see the inputs of the first of them, each
        with thresholds of its own (column-wise). What is left are transforms that run side by side
        on inputs of their own.
    threshold : In(stream of unsigned(spec.threshold_bits))
        A set of T, row 0 of tile 0 first. Takes precedence over `act`, and waits until the array is
        empty.
    result : Out(stream of struct of result, planes)
        Soft-thresholded results, and how many planes the array took for them.
    clear : In(1)
        Sets the counters to zero.
    vectors, array_planes, row_planes, zeros : Out(counter_bits)
        Vectors done, planes the array took, planes its rows took, results that are 0. They have
        settled two edges after the last plane.
    """

    port_help = {
        "act": "vectors of two's complement inputs, tile 0 in the low bits",
        "mode": "merge: log2 of tiles in a transform; share: log2 of transforms of one input",
        "threshold": "set of soft thresholds, one a beat, row 0 of tile 0 first",
        "result": "soft-thresholded results, and the planes the array took",
        "clear": "sets the counters to zero",
        "vectors": "vectors done",
        "array_planes": "planes the array took",
        "row_planes": "planes the rows took, summed over rows",
        "zeros": "results that are zero",
    }

    def __init__(self, spec: BitPlaneSpec) -> None:
        ports = {
            "act": In(stream.Signature(data.ArrayLayout(signed(spec.act_bits), spec.inputs))),
            "threshold": In(stream.Signature(unsigned(spec.threshold_bits))),
            "result": Out(
                stream.Signature(
                    data.StructLayout(
                        {
                            "result": data.ArrayLayout(signed(spec.result_bits), spec.outputs),
                            "planes": spec.planes.bit_length(),
                        }
                    )
                )
            ),
            "clear": In(1),
            "vectors": Out(spec.counter_bits),
            "array_planes": Out(spec.counter_bits),
            "row_planes": Out(spec.counter_bits),
            "zeros": Out(spec.counter_bits),
        }
        if spec.tiles > 1:
            level = Shape.cast(range(spec.levels + 1))
            ports["mode"] = In(data.StructLayout({"merge": level, "share": level}))
        super().__init__(ports)
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the array."""
        m = Module()
        spec = self.spec
        rows = [Row(spec) for _ in range(spec.outputs)]
        for index, row in enumerate(rows):
            m.submodules[f"row{index}"] = row

        running = Signal()  # a vector is in the planes
        pending = Signal()  # the rows hold results that have not moved to the output
        first = Signal()
        left = Signal(range(spec.planes))  # planes after this one
        take, step, last, leave, working = (
            Signal(name=name) for name in ("take", "step", "last", "leave", "working")
        )
        m.d.comb += [
            leave.eq(pending & (~self.result.valid | self.result.ready)),
            # The first step of a vector overwrites what the rows hold.
            step.eq(running & (~pending | leave)),
            working.eq(Cat(row.active for row in rows).any()),
            last.eq(step & ((left == 0) | ~Cat(row.stays for row in rows).any())),
            take.eq(self.act.valid & self.act.ready),
        ]
        m.d.sync += [
            running.eq(take | (running & ~last)),
            pending.eq(last | (pending & ~leave)),
        ]
        with m.If(step):
            m.d.sync += [first.eq(0), left.eq(left - 1)]
        with m.If(take):
            m.d.sync += [first.eq(1), left.eq(spec.planes - 1)]

        loaded = self._thresholds(m, rows, ~running & ~pending)
        m.d.comb += self.act.ready.eq(loaded & ~self.threshold.valid & (~running | last))

        merge = self._crossbar(m, rows, take, step)
        for row in rows:
            m.d.comb += [
                row.load.eq(take),
                row.step.eq(step),
                row.first.eq(first),
                row.weight.eq(spec.columns << merge if spec.exact else 1),
            ]

        planes = Signal(range(spec.planes + 1))
        with m.If(step):
            m.d.sync += planes.eq(Mux(first, 0, planes) + working)
        with m.If(leave):
            m.d.sync += self.result.payload.planes.eq(planes)
            for index, row in enumerate(rows):
                m.d.sync += self.result.payload.result[index].eq(row.result)
        m.d.sync += self.result.valid.eq(leave | (self.result.valid & ~self.result.ready))

        self._counters(m, rows, step, last, working)
        return m

    def _thresholds(self, m: Module, rows: list[Row], empty: Value) -> Value:
        """Add the threshold registers, a shift chain; return whether a whole set is in them."""
        chain = Signal(data.ArrayLayout(self.spec.threshold_bits, len(rows)))
        count = Signal(range(len(rows)))
        loaded = Signal()
        m.d.comb += self.threshold.ready.eq(empty)
        with m.If(self.threshold.valid & self.threshold.ready):
            last = count == len(rows) - 1
            word = Cat(chain.as_value(), self.threshold.payload)
            m.d.sync += [
                chain.as_value().eq(word[self.spec.threshold_bits :]),
                count.eq(Mux(last, 0, count + 1)),
                loaded.eq(last),
            ]
        m.d.comb += [row.threshold.eq(chain[index]) for index, row in enumerate(rows)]
        return loaded

    def _crossbar(self, m: Module, rows: list[Row], take: Value, step: Value) -> Value:
        """Add input registers, tiles and stitching levels; return the levels that `mode` merges."""
        spec = self.spec
        values: list[Value] = [self.act.payload[i] for i in range(spec.inputs)]
        merging = Signal(spec.levels)  # of the vector in the planes: a bit for each level
        merge: Value = Value.cast(0)
        if spec.tiles > 1:
            merge = self.mode.merge
            for level in range(spec.levels):
                shared = Signal(name=f"shared{level}")
                m.d.comb += shared.eq((level >= merge) & (level < merge + self.mode.share))
                span = spec.columns << level
                heard = [
                    Mux(shared, values[i & ~span], v).as_signed() if i & span else v
                    for i, v in enumerate(values)
                ]
                values = _wires(m, heard, f"heard{level}")
                with m.If(take):
                    m.d.sync += merging[level].eq(level < merge)

        digits: list[Value] = []
        for index, value in enumerate(values):
            negative = Signal(name=f"negative{index}")
            magnitude = Signal(spec.planes, name=f"magnitude{index}")
            size = Mux(value < 0, -value, value)[: spec.act_bits]
            with m.If(step):
                m.d.sync += magnitude.eq(magnitude << 1)
            with m.If(take):
                # Only the most negative code reaches the top bit: it saturates.
                m.d.sync += [
                    negative.eq(value < 0),
                    magnitude.eq(size[: spec.planes] | size[-1].replicate(spec.planes)),
                ]
            top = magnitude[-1]
            digits.append(Cat(top, top & negative).as_signed())
        digits = _wires(m, digits, "digit")

        points = max(spec.rows, spec.columns)
        points = 1 << (points - 1).bit_length()
        zeros = [Value.cast(0)] * (points - spec.columns)
        sums: list[Value] = []
        for tile in range(spec.tiles):
            inputs = digits[tile * spec.columns :][: spec.columns]
            levels = range(points.bit_length() - 1)
            sums += butterflies(m, [*inputs, *zeros], levels, f"tile{tile}")[: spec.rows]
        for level in range(spec.levels):
            span = spec.rows << level
            place = span.bit_length() - 1
            stitched = butterflies(m, sums, range(place, place + 1), "stitched")
            sums = [Mux(merging[level], new, old) for new, old in zip(stitched, sums, strict=True)]
            sums = _wires(m, sums, f"sum{level}")
        for row, total in zip(rows, sums, strict=True):
            if spec.exact:
                m.d.comb += row.digit.eq(total)
            else:
                m.d.comb += row.digit.eq(Cat(total != 0, total < 0).as_signed())
        return merge

    def _counters(
        self, m: Module, rows: list[Row], step: Value, last: Value, working: Value
    ) -> None:
        """Add the work counters; the counts over rows pass a register first."""
        counted = Signal()
        ended = Signal()
        active = Signal(range(len(rows) + 1))
        zeros = Signal(range(len(rows) + 1))
        m.d.sync += [
            counted.eq(step),
            ended.eq(last),
            active.eq(sum(row.active for row in rows)),
            zeros.eq(sum(~row.stays for row in rows)),
            self.vectors.eq(self.vectors + last),
            self.array_planes.eq(self.array_planes + (step & working)),
        ]
        with m.If(counted):
            m.d.sync += self.row_planes.eq(self.row_planes + active)
        with m.If(ended):
            m.d.sync += self.zeros.eq(self.zeros + zeros)
        with m.If(self.clear):
            m.d.sync += [
                counter.eq(0)
                for counter in (self.vectors, self.array_planes, self.row_planes, self.zeros)
            ]
