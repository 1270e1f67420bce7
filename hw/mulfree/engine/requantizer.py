"""From wide accumulators to narrow activations, bit for bit as TFLite's reference kernels do it.

``out = clamp(zero_point + round((acc + bias) · multiplier / 2^31 · 2^shift), low, high)``:
``MultiplyByQuantizedMultiplier`` in ``tensorflow/lite/kernels/internal/common.h``, which rounds in
one of two ways. `single`: once, ties up (``TFLITE_SINGLE_ROUNDING``; what ai-edge-litert's kernels
do). `double`: the product by 2^31 with ties up, then the shift to the right with ties away from
zero (gemmlowp). They differ by at most one. ReLU is ``low = zero_point``.

No multiplier: each digit of the factor selects one of the accumulator's small multiples
(0, x, 2x, 3x for two bits), and the selected ones are summed up from the lowest digit, while the
low bits of the sum, which can only round, fall off.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree.arith.rounding import nudged_half_away, nudged_half_up, saturate
from mulfree.spec import Spec, SpecError, choice, flag, integer


@dataclass(frozen=True, kw_only=True)
class RequantizerSpec(Spec):
    """Parameters of the requantizer.

    A channel's real factor is ``multiplier / 2^multiplier_bits · 2^shift``, its shift from
    ``-right_shift`` to ``left_shift``. The sum with the bias wraps at `acc_bits`; nothing after it
    overflows, provided the multipliers have their top bit set or are 0.
    """

    unit: ClassVar[str] = "requantizer"

    lanes: int = integer(1, 1, 64, "accumulators requantized side by side")
    channels: int = integer(64, 1, 4096, "channels that the parameter tables hold")
    acc_bits: int = integer(32, 4, 32, "width of an accumulator and of a bias")
    out_bits: int = integer(8, 1, 16, "width of an output")
    out_signed: bool = flag(True, "outputs are two's complement")
    multiplier_bits: int = integer(31, 2, 31, "width of a multiplier; TFLite has 31")
    left_shift: int = integer(0, 0, 30, "largest left shift, for factors of 1 and more")
    right_shift: int = integer(31, 1, 31, "largest right shift")
    digit_bits: int = integer(2, 1, 4, "bits of the multiplier that select one multiple")
    digits: int = integer(1, 1, 31, "digits summed up in one clock")
    rounding: str = choice(
        "single", ("single", "double"), "roundings on the way, as TFLite's builds"
    )
    style: str = choice("serial", ("serial", "pipelined"), "one adder used again, or one a step")

    def check(self) -> None:
        """Check that lanes share channels, no digit is empty, and a saturated shift saturates."""
        if self.left_shift and self.acc_bits < self.out_bits + 3:
            raise SpecError(
                f"acc_bits must be at least {self.out_bits + 3} with a left shift, "
                f"not {self.acc_bits}"
            )
        if self.channels % self.lanes:
            raise SpecError(
                f"channels must be a multiple of lanes ({self.lanes}), not {self.channels}"
            )
        needed = -(-self.multiplier_bits // self.digit_bits)
        if self.digits > needed:
            raise SpecError(
                f"digits must be at most {needed} for this multiplier, not {self.digits}"
            )

    @property
    def step_bits(self) -> int:
        """Bits of the multiplier that are used up in one clock."""
        return self.digit_bits * self.digits

    @property
    def steps(self) -> int:
        """Clocks in which the digits of a multiplier are summed up."""
        return -(-self.multiplier_bits // self.step_bits)

    @property
    def interval(self) -> int:
        """Clocks between two beats when neither side stalls."""
        if self.style == "pipelined":
            return 1
        return self.steps + 4 + (self.left_shift > 0) + (self.digit_bits > 1)

    @property
    def groups(self) -> int:
        """Rows of the parameter tables: channels that a lane serves."""
        return self.channels // self.lanes

    @property
    def acc_shape(self) -> Shape:
        """Amaranth shape of an accumulator."""
        return signed(self.acc_bits)

    @property
    def out_shape(self) -> Shape:
        """Amaranth shape of an output."""
        return signed(self.out_bits) if self.out_signed else unsigned(self.out_bits)

    @property
    def out_range(self) -> tuple[int, int]:
        """Smallest and largest output."""
        low = -(1 << (self.out_bits - 1)) if self.out_signed else 0
        return low, low + (1 << self.out_bits) - 1

    @property
    def shift_shape(self) -> Shape:
        """Amaranth shape of a channel's shift, positive to the left."""
        return Shape.cast(range(-self.right_shift, self.left_shift + 1))

    @property
    def parameter_layout(self) -> data.StructLayout:
        """Payload of the stream that loads one channel's parameters a beat."""
        return data.StructLayout(
            {
                "bias": self.acc_shape,
                "multiplier": unsigned(self.multiplier_bits),
                "shift": self.shift_shape,
                "last": 1,
            }
        )

    @property
    def row_layout(self) -> data.StructLayout:
        """One channel's parameters as they are kept."""
        left = {"left": range(self.left_shift + 1)} if self.left_shift else {}
        return data.StructLayout(
            {
                "bias": self.acc_shape,
                "multiplier": unsigned(self.multiplier_bits),
                "right": range(self.right_shift + 1),
                **left,
            }
        )

    @property
    def beat_layout(self) -> data.StructLayout:
        """Payload of the stream of accumulators."""
        acc = data.ArrayLayout(self.acc_shape, self.lanes)
        return data.StructLayout({"acc": acc, "group": range(max(self.groups, 2))})

    def component(self) -> "Requantizer":
        """Build the requantizer."""
        return Requantizer(self)


class Requantizer(wiring.Component):
    """Adds a bias, scales, rounds, adds the zero point, clamps.

    Members
    -------
    parameter : In(stream of spec.parameter_layout)
        The channels' parameters from channel 0 on, `last` with the last one. Always taken. From the
        first to the last beat of a set no accumulators are accepted; those accepted on the edge of
        the first, or earlier, still use the former set.
    acc : In(stream of spec.beat_layout)
        Accumulators of the channels ``group · lanes + lane``.
    out : Out(stream of spec.out_shape × lanes)
        Outputs, in the order of the accumulators.
    zero_point, low, high : In(spec.out_shape)
        What is added, and the range that the sum is clamped to; held while beats are under way.
    """

    port_help = {
        "parameter": "bias, multiplier and shift of each channel in turn; last ends the set",
        "acc": "accumulators of the channels group * lanes + lane",
        "out": "outputs, lane 0 in the low bits, in the order of the accumulators",
        "zero_point": "added to every output; holds while beats are under way",
        "low": "smallest output (ReLU: the zero point); holds while beats are under way",
        "high": "largest output; holds while beats are under way",
    }

    def __init__(self, spec: RequantizerSpec) -> None:
        super().__init__(
            {
                "parameter": In(stream.Signature(spec.parameter_layout)),
                "acc": In(stream.Signature(spec.beat_layout)),
                "out": Out(stream.Signature(data.ArrayLayout(spec.out_shape, spec.lanes))),
                "zero_point": In(spec.out_shape),
                "low": In(spec.out_shape),
                "high": In(spec.out_shape),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the parameter tables, and the lanes around one control."""
        m = Module()
        spec = self.spec
        m.submodules.tables = tables = _ParameterTables(spec)
        m.d.comb += [
            tables.write.payload.eq(self.parameter.payload),
            tables.write.valid.eq(self.parameter.valid),
            self.parameter.ready.eq(1),
            tables.group.eq(self.acc.payload.group),
        ]
        lanes = [_Lane(spec, self, tables.rows[i]) for i in range(spec.lanes)]
        if spec.style == "pipelined":
            self._pipeline(m, tables, lanes)
        else:
            self._sequence(m, tables, lanes)
        return m

    def _pipeline(self, m: Module, tables: "_ParameterTables", lanes: list["_Lane"]) -> None:
        """One beat a clock; everything stops together when the output is stuck."""
        advance = Signal()
        m.d.comb += [
            advance.eq(~self.out.valid | self.out.ready),
            self.acc.ready.eq(advance & tables.complete),
            tables.read.eq(advance),
        ]
        depth = 2 + (self.spec.left_shift > 0) + (self.spec.digit_bits > 1) + self.spec.steps + 3
        under_way = Signal(depth)
        with m.If(advance):
            accepted = self.acc.valid & tables.complete
            m.d.sync += Cat(under_way, self.out.valid).eq(Cat(accepted, under_way))
            for lane, acc, out in zip(lanes, self.acc.payload.acc, self.out.payload, strict=True):
                m.d.sync += out.eq(lane.pipeline(m, acc))

    def _sequence(self, m: Module, tables: "_ParameterTables", lanes: list["_Lane"]) -> None:
        """One beat at a time through one adder a lane; a row of the tables holds meanwhile."""
        spec = self.spec
        x = [Signal(spec.acc_shape, name=f"x{i}") for i in range(spec.lanes)]
        partial = [Signal(lane.partial_shape, name=f"partial{i}") for i, lane in enumerate(lanes)]
        multiples = [lane.multiples(value) for lane, value in zip(lanes, x, strict=True)]
        step = Signal(range(spec.steps))
        begin, take = Signal(), Signal()
        m.d.comb += [
            begin.eq(self.acc.valid & tables.complete),
            tables.read.eq(begin & take),
        ]
        with m.If(self.out.ready):
            m.d.sync += self.out.valid.eq(0)
        with m.FSM():
            with m.State("wait"):
                m.d.comb += take.eq(1)
                with m.If(begin):
                    m.next = "sum"
            # The accumulators stand still on the stream until the table has answered.
            with m.State("sum"):
                m.d.comb += self.acc.ready.eq(1)
                for i, lane in enumerate(lanes):
                    m.d.sync += [
                        x[i].eq(lane.total(self.acc.payload.acc[i])),
                        partial[i].eq(lane.seed(lane.row.right)),
                    ]
                m.next = "shift" if spec.left_shift else "multiples"
            if spec.left_shift:
                with m.State("shift"):
                    for i, lane in enumerate(lanes):
                        m.d.sync += x[i].eq(lane.shifted(x[i], lane.row.left))
                    m.next = "multiples"
            if spec.digit_bits > 1:
                held = [{n: Signal.like(v) for n, v in some.items()} for some in multiples]
                with m.State("multiples"):
                    for i in range(spec.lanes):
                        m.d.sync += [held[i][n].eq(v) for n, v in multiples[i].items()]
                    m.next = "digits"
                multiples = held
            with m.State("digits" if spec.digit_bits > 1 else "multiples"):
                for i, lane in enumerate(lanes):
                    digits = lane.factor(lane.row.multiplier).word_select(step, spec.step_bits)
                    m.d.sync += partial[i].eq(lane.step(partial[i], multiples[i], digits))
                m.d.sync += step.eq(step + 1)
                with m.If(step == spec.steps - 1):
                    m.d.sync += step.eq(0)
                    m.next = "nudge"
            with m.State("nudge"):
                for i, lane in enumerate(lanes):
                    m.d.sync += partial[i].eq(lane.nudged(partial[i], lane.row.right))
                m.next = "scale"
            with m.State("scale"):
                for i, lane in enumerate(lanes):
                    m.d.sync += partial[i].eq(partial[i] >> lane.row.right)
                m.next = "out"
            with m.State("out"), m.If(~self.out.valid | self.out.ready):
                for i, lane in enumerate(lanes):
                    m.d.sync += self.out.payload[i].eq(lane.clamped(lane.placed(partial[i])))
                m.d.sync += self.out.valid.eq(1)
                m.d.comb += take.eq(1)
                m.next = "wait"
                with m.If(begin):
                    m.next = "sum"


class _ParameterTables(wiring.Component):
    """A small memory a lane, filled in channel order, read one row at a time.

    Members
    -------
    write : In(stream of spec.parameter_layout)
        Always taken.
    complete : Out(1)
        A whole set is loaded.
    group, read : In
        Row to read, and whether this edge reads it.
    rows : Out(spec.row_layout × lanes)
        The row read last.
    """

    def __init__(self, spec: RequantizerSpec) -> None:
        super().__init__(
            {
                "write": In(stream.Signature(spec.parameter_layout, always_ready=True)),
                "complete": Out(1),
                "group": In(range(max(spec.groups, 2))),
                "read": In(1),
                "rows": Out(data.ArrayLayout(spec.row_layout, spec.lanes)),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the memories and the write pointer, a one-hot lane and a row."""
        m = Module()
        spec = self.spec
        given = self.write.payload
        row = Signal(spec.row_layout)
        m.d.comb += [
            row.bias.eq(given.bias),
            row.multiplier.eq(given.multiplier),
            row.right.eq(Mux(given.shift < 0, -given.shift, 0)),
        ]
        if spec.left_shift:
            m.d.comb += row.left.eq(Mux(given.shift > 0, given.shift, 0))
        lane = Signal(spec.lanes, init=1)
        group = Signal.like(self.group)
        with m.If(self.write.valid):
            m.d.sync += [
                self.complete.eq(given.last),
                lane.eq(Mux(given.last, 1, lane.rotate_left(1))),
                group.eq(Mux(given.last, 0, group + lane[-1])),
            ]
        for i in range(spec.lanes):
            # Two rows at the least: a memory without an address trips some tools.
            table = memory.Memory(shape=spec.row_layout, depth=max(spec.groups, 2), init=[])
            m.submodules[f"table{i}"] = table
            write, read = table.write_port(), table.read_port()
            m.d.comb += [
                write.addr.eq(group),
                write.data.eq(row),
                write.en.eq(self.write.valid & lane[i]),
                read.addr.eq(self.group),
                read.en.eq(self.read),
                self.rows[i].eq(read.data),
            ]
        return m


class _Lane:
    """The arithmetic of one lane, as expressions between which registers may stand."""

    def __init__(self, spec: RequantizerSpec, ports: Requantizer, row: Any) -> None:
        self.spec = spec
        self.ports = ports
        self.row = row
        #: Zero bits put below the multiplier to fill its lowest digits.
        self.padding = spec.steps * spec.step_bits - spec.multiplier_bits
        self.half = 1 << (spec.multiplier_bits + self.padding - 1)
        # A partial sum never outgrows an accumulator, but the half may, and half a step more
        # before the shift.
        self.partial_shape = signed(max(spec.acc_bits, self.half.bit_length()) + 1)

    def total(self, acc: Value) -> Value:
        """Add the bias."""
        return (acc + self.row.bias)[: self.spec.acc_bits].as_signed()

    def shifted(self, total: Value, left: Value) -> Value:
        """Shift left, for factors of 1 and more; what saturates here is clamped in the end."""
        return saturate(total << left, self.spec.acc_shape)

    def multiples(self, x: Value) -> dict[int, Value]:
        """Return the odd multiples that a digit can select, each one addition from smaller ones."""
        found = {1: x}
        for n in range(3, 1 << self.spec.digit_bits, 2):
            top = n.bit_length() - 1
            found[n] = (x << top) + found[n - (1 << top)]
        return found

    def seed(self, right: Value) -> Value:
        """Return the first partial sum: half a unit of the sum, if the sum is rounded itself."""
        half = Const(self.half, self.partial_shape)
        return half if self.spec.rounding == "double" else Mux(right == 0, half, 0)

    def factor(self, multiplier: Value) -> Any:
        """Return the multiplier as whole steps of digits."""
        return Cat(Const(0, self.padding), multiplier) if self.padding else multiplier

    def step(self, partial: Value, multiples: dict[int, Value], digits: Value) -> Value:
        """Add one step's digits' multiples and drop the bits that are done."""
        width = self.spec.digit_bits
        for place in range(self.spec.digits):
            chosen = _select(multiples, digits.word_select(place, width))
            partial = partial + (chosen << (place * width))
        return (partial >> self.spec.step_bits)[: self.partial_shape.width].as_signed()

    def nudged(self, partial: Value, right: Value) -> Value:
        """Add what makes the shift to the right round."""
        value = partial[: self.spec.acc_bits].as_signed()
        nudged = nudged_half_away if self.spec.rounding == "double" else nudged_half_up
        return nudged(value, right, self.spec.right_shift)

    def placed(self, scaled: Value) -> Value:
        """Add the zero point."""
        return saturate(scaled + self.ports.zero_point, self.spec.out_shape)

    def clamped(self, value: Value) -> Value:
        """Clamp."""
        ports = self.ports
        return Mux(value < ports.low, ports.low, Mux(value > ports.high, ports.high, value))

    def pipeline(self, m: Module, acc: Value) -> Value:
        """Put a register behind every piece, enabled as the caller's context says."""

        def register(value: Value) -> Signal:
            held = Signal(value.shape())
            m.d.sync += held.eq(value)
            return held

        spec = self.spec
        x = register(self.total(register(acc)))
        factor, right = register(self.row.multiplier), register(self.row.right)
        if spec.left_shift:
            x = register(self.shifted(x, register(self.row.left)))
            factor, right = register(factor), register(right)
        multiples = self.multiples(x)
        if spec.digit_bits > 1:
            multiples = {n: register(value) for n, value in multiples.items()}
            factor, right = register(factor), register(right)
        factor = self.factor(factor)
        partial = self.seed(right)
        for place in range(spec.steps):
            digits = factor[: spec.step_bits]
            partial = register(self.step(partial, multiples, digits))
            right = register(right)
            if place < spec.steps - 1:
                multiples = {n: register(value) for n, value in multiples.items()}
                factor = register(factor[spec.step_bits :])
        return self.rounded(m, partial, right)

    def rounded(self, m: Module, partial: Value, right: Value) -> Value:
        """Return the output of the last partial sum, three registers later."""
        nudged, shift = Signal(self.partial_shape), Signal.like(right)
        scaled = Signal(self.partial_shape)
        value = Signal(self.spec.out_shape)
        m.d.sync += [
            nudged.eq(self.nudged(partial, right)),
            shift.eq(right),
            scaled.eq(nudged >> shift),
            value.eq(self.placed(scaled)),
        ]
        return self.clamped(value)


def _select(multiples: dict[int, Value], digit: Value) -> Value:
    """Return ``digit · x``, an odd multiple shifted or nothing."""
    entries: list[Value] = [Const(0, 1)]
    for n in range(1, 1 << len(digit)):
        zeros = (n & -n).bit_length() - 1
        entries.append(multiples[n >> zeros] << zeros)
    for bit in digit:
        entries = [Mux(bit, b, a) for a, b in zip(entries[::2], entries[1::2], strict=True)]
    return entries[0]
