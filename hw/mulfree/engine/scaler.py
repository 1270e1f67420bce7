"""From accumulators to activations, one a clock: what the requantizer does, by look-up.

The multiplier's multiples lie in small memories, one for each digit of the accumulator, so that a
product is a sum of as many entries as there are digits. A lane's multiplier is the same for many
accumulators, and filling its tables takes few clocks.
"""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mulfree.arith.trees import Term, add_tree, levels
from mulfree.engine.pipeline import delayed, register
from mulfree.engine.requantizer import RequantizerSpec, _Lane
from mulfree.units.core import own

#: Words of a table: what distributed memory holds in one piece.
WORDS = 16


@dataclass(frozen=True, kw_only=True)
class ScalerSpec:
    """Parameters of a scaler; what they mean is `RequantizerSpec`'s to say.

    `pieces` is how many channels a lane serves in turn.
    """

    acc_bits: int
    out_bits: int
    out_signed: bool
    left_shift: int
    rounding: str
    pieces: int

    #: Most channels that share a table: digits have two bits at the least.
    MOST_PIECES = WORDS >> 2

    @property
    def requantizer(self) -> RequantizerSpec:
        """The requantizer whose results it gives."""
        return RequantizerSpec(
            acc_bits=self.acc_bits,
            out_bits=self.out_bits,
            out_signed=self.out_signed,
            left_shift=self.left_shift,
            right_shift=self.right_shift,
            rounding=self.rounding,
        )

    @property
    def right_shift(self) -> int:
        """Largest right shift; what more ones leave is nothing as well."""
        return min(self.acc_bits + 1, 31)

    @property
    def digit_bits(self) -> int:
        """Bits of a digit of the accumulator."""
        return ceil_log2(WORDS) - ceil_log2(self.pieces)

    @property
    def digits(self) -> int:
        """Digits of an accumulator, and tables."""
        return -(-self.acc_bits // self.digit_bits)

    @property
    def steps(self) -> int:
        """Multiples that are made: from the smallest signed digit to the largest plain one."""
        return 3 << (self.digit_bits - 1)

    @property
    def fill_clocks(self) -> int:
        """Clocks from one channel's filling to the next one's, or to the first accumulator."""
        return self.steps + 2

    @property
    def latency(self) -> int:
        """Clock edges from an accumulator to its output."""
        return 2 + (self.left_shift > 0) + 1 + levels(self.digits) + 4

    @property
    def parameters(self) -> dict[str, Shape]:
        """What a channel has: bias, multiplier, and bits shifted either way."""
        shapes = {
            "bias": signed(self.acc_bits),
            "multiplier": unsigned(self.requantizer.multiplier_bits),
            "right": Shape.cast(range(self.right_shift + 1)),
        }
        if self.left_shift:
            shapes["left"] = Shape.cast(range(self.left_shift + 1))
        return shapes


class Scaler(wiring.Component):
    """Adds a bias, scales, rounds, adds the zero point, clamps: one accumulator a clock.

    Members
    -------
    fill : In(1)
        The tables of this piece's channel are to be filled; its `row` stands `spec.fill_clocks`.
    acc, row, piece : In
        The accumulator, its channel's parameters, which of the lane's channels it is.
    zero_point, low, high : In
        What is added, and the range that the sum is clamped to; held.
    out : Out(width of an activation)
        Its bits, `spec.latency` edges later; without a sign, for they are an address as well, and
        a negative one is none to a Verilog simulator.
    """

    def __init__(self, spec: ScalerSpec) -> None:
        out = spec.requantizer.out_shape
        super().__init__(
            {
                "fill": In(1),
                "acc": In(signed(spec.acc_bits)),
                "row": In(data.StructLayout(spec.parameters)),
                "piece": In(range(max(spec.pieces, 2))),
                "zero_point": In(out),
                "low": In(out),
                "high": In(out),
                "out": Out(out.width),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build what fills the tables, the digits' way through them, and the sum's way out."""
        m = Module()
        spec = self.spec
        row = register(m, self.row, "row_q")
        lane = _Lane(spec.requantizer, self, row)

        total = register(m, lane.total(register(m, self.acc, "acc_q")), "total")
        piece = own(m, own(m, self.piece, "piece_1"), "piece_2")
        right = register(m, row.right, "right_1")
        if spec.left_shift:
            left = register(m, row.left, "left_1")
            total = register(m, lane.shifted(total, left), "shifted")
            piece = own(m, piece, "piece_3")
            right = register(m, right, "right_2")
        entries = self._entries(m, row, total, piece)
        tree = add_tree(m, entries, registers=range(levels(spec.digits) + 1), name="product")

        # The product in halves of a unit, and what rounds it, on the same edge.
        negative = delayed(m, total < 0, tree.ranks - 1, "negative")
        right = delayed(m, right, tree.ranks - 1, "right_half")
        half = register(m, self._half(right, negative), "half")
        halves = tree.value >> (spec.requantizer.multiplier_bits - 1)
        rounded = register(m, ((halves + half) >> 1)[: spec.acc_bits + 2].as_signed(), "rounded")
        scaled = register(m, rounded >> delayed(m, right, 2, "right_scale"), "scaled")
        placed = register(m, lane.placed(scaled), "placed")
        m.d.comb += self.out.eq(register(m, lane.clamped(placed), "clamped"))
        return m

    def _half(self, right: Any, negative: Any) -> Any:
        """Return what rounds a product in halves of a unit: half of what is shifted out, and, with
        two roundings, half a unit; ties go away from zero then.
        """
        places = range(self.spec.acc_bits + 2)
        if self.spec.rounding == "single":
            return Cat(right == place for place in places)
        return Cat(1, *(Mux(negative, right > place, right == place) for place in places[1:]))

    def _entries(self, m: Module, row: Any, total: Value, piece: Value) -> list[Term]:
        """Build the tables and what fills them; return what each digit of the sum selects."""
        spec = self.spec
        places, bits = spec.requantizer.multiplier_bits, spec.digit_bits
        # Every lane has control of its own: one for all would drive hundreds of tables.
        fills, first, writes = (
            Signal(name=name, attrs={"keep": 1}) for name in ("fills", "first", "writes")
        )
        step = Signal(places, reset_less=True)
        multiple = Signal(signed(places + bits + 1), reset_less=True)
        # Whose multiple is written.
        digit = Signal(signed(bits + 1), reset_less=True, attrs={"keep": 1})
        low, high = -(1 << (bits - 1)), (1 << bits) - 1
        smallest = Cat(Const(0, bits - 1), row.multiplier, Const(0, 1))
        m.d.sync += [
            fills.eq(self.fill),
            first.eq(fills),
            writes.eq(first | (writes & (digit != high))),
            digit.eq(Mux(first, low, digit + 1)),
            # From the smallest one, less one, which the first step brings.
            step.eq(Mux(fills, 0, row.multiplier)),
            multiple.eq(Mux(fills, ~smallest.as_signed(), multiple + step + first)),
        ]
        held = own(m, self.piece, "piece_held")
        entries = []
        for place in range(spec.digits):
            top = place == spec.digits - 1
            m.submodules[f"table_{place}"] = table = memory.Memory(
                shape=signed(places + bits) if top else unsigned(places + bits),
                depth=WORDS,
                init=[],
            )
            write, read = table.write_port(), table.read_port(domain="comb")
            wanted = digit < 1 << (bits - 1) if top else digit >= 0
            extended = Cat(total, total[-1].replicate(bits))
            m.d.comb += [
                write.addr.eq(Cat(digit[:bits], held)),
                write.data.eq(multiple),
                write.en.eq(writes & wanted),
                read.addr.eq(Cat(extended.word_select(place, bits), piece)),
            ]
            ends = (low, high >> 1) if top else (0, high)
            most = (1 << places) - 1
            bounds = ends[0] * most, ends[1] * most
            entries.append(Term(read.data, place * bits, bounds=bounds))
        return entries
