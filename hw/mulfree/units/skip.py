"""Zero skipping: a product a clock for the weights that are not zero, no clock for those that are.

The weights come as a stream of compressed rows (`formats.runs`), activations as vectors that every
row reads. Products are shifts (power-of-two weights), or, to compare with, multiplications.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mulfree.arith.shifters import Shifter
from mulfree.arith.trees import delay
from mulfree.formats import Int, PowerOfTwo
from mulfree.spec import Spec, SpecError, choice, flag, integer
from mulfree.units.core import TileHandshake


@dataclass(frozen=True, kw_only=True)
class SkipSpec(Spec):
    """Zero-skipping bit shift and accumulate over compressed rows of weights."""

    unit: ClassVar[str] = "skip"

    product: str = choice(
        "pot", ("pot", "uniform"), "how a weight is coded; uniform multiplies, to compare with"
    )
    inputs: int = integer(64, 1, 4096, "longest vector of activations")
    act_bits: int = integer(8, 1, 16, "width of an activation")
    act_signed: bool = flag(True, "activations are two's complement")
    weight_bits: int = integer(4, 2, 16, "width of a weight's code; at most 6 for pot")
    run_bits: int = integer(4, 1, 16, "width of the count of zeros before a weight")
    acc_bits: int = integer(32, 4, 64, "width of the accumulator, two's complement")

    def check(self) -> None:
        """Check that the weights have a code and one product fits the accumulator."""
        if self.product == "pot" and self.weight_bits > 6:
            raise SpecError(
                f"weight_bits must be at most 6 when product is pot, not {self.weight_bits}"
            )
        if self.acc_bits < self.product_bits:
            raise SpecError(
                f"acc_bits must be at least the product's {self.product_bits}, not {self.acc_bits}"
            )

    @property
    def act_format(self) -> Int:
        """How an activation is coded."""
        return Int(self.act_bits, self.act_signed)

    @property
    def act_shape(self) -> Shape:
        """Amaranth shape of one activation."""
        return signed(self.act_bits) if self.act_signed else unsigned(self.act_bits)

    @property
    def weight_format(self) -> Any:
        """How a weight is coded."""
        return PowerOfTwo(self.weight_bits) if self.product == "pot" else Int(self.weight_bits)

    @property
    def product_bits(self) -> int:
        """Width of one exact signed product."""
        number_bits = self.act_bits + (not self.act_signed)
        if self.product == "pot":
            return number_bits + (1 << (self.weight_bits - 1)) - 1
        return number_bits + self.weight_bits

    @property
    def address_bits(self) -> int:
        """Width of a position in a vector."""
        return ceil_log2(self.inputs)

    @property
    def entry_layout(self) -> data.StructLayout:
        """What one beat of the `weight` stream holds, the code in the low bits."""
        return data.StructLayout(
            {"code": self.weight_bits, "run": self.run_bits, "last": 1, "end": 1}
        )

    @property
    def act_layout(self) -> data.StructLayout:
        """What one beat of the `act` stream holds."""
        return data.StructLayout({"value": self.act_shape, "last": 1})

    def component(self) -> "Skip":
        """Build the unit."""
        return Skip(self)


class Skip(wiring.Component):
    """Accumulates ``Σ weight · act[position]`` over the entries of each row, one entry a clock.

    A row's sum is there two clocks after the edge that takes its last entry. The next vector is
    taken in while the present one is in use.

    Members
    -------
    act : In(stream of spec.act_layout)
        Vectors of at most `inputs` activations; `last` ends one.
    weight : In(stream of spec.entry_layout)
        `code`, and the `run` of zeros before it in its row; `last` ends a row, `end` the rows that
        use the present vector. Positions stay below the vector's length.
    result : Out(stream of signed(spec.acc_bits))
        The sum of each row, modulo 2^acc_bits.
    """

    port_help = {
        "act": "vectors of activations; last: the vector ends",
        "weight": "code: a weight; run: zeros skipped before it; last: the row ends; "
        "end: the next entry uses the next vector",
        "result": "sum of a row",
    }

    def __init__(self, spec: SkipSpec) -> None:
        super().__init__(
            {
                "act": In(stream.Signature(spec.act_layout)),
                "weight": In(stream.Signature(spec.entry_layout)),
                "result": Out(stream.Signature(signed(spec.acc_bits))),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the sequencer, the vector memory, the product and the accumulator."""
        m = Module()
        spec = self.spec
        en = Signal()  # everything behind the entry stands still while a sum is refused
        accept = Signal()
        m.submodules.vectors = vectors = TileHandshake(double_buffer=True)
        entry = self.weight.payload
        m.d.comb += [
            en.eq(~self.result.valid | self.result.ready),
            self.weight.ready.eq(en & vectors.loaded),
            accept.eq(self.weight.valid & self.weight.ready),
            vectors.retire.eq(accept & entry.end),
        ]
        position = self._sequence(m, accept)
        act = self._vector(m, vectors, en, position)
        if spec.product == "pot":
            product, sign = _shifted(m, spec, act, entry.code, en)
        else:
            product, sign = _multiplied(m, act, entry.code, en)

        arrived, ends = accept, entry.last
        for rank in range(2):  # the vector memory, the product register
            arrived = _clocked(m, arrived, en, f"arrived_{rank}")
            ends = delay(m, ends, 1, en, f"ends_{rank}")
        total, following = Signal(signed(spec.acc_bits)), Signal(signed(spec.acc_bits + 1))
        m.d.comb += following.eq(
            Cat(Const(1, 1), total).as_signed() + Cat(sign, product).as_signed()
        )
        with m.If(en & arrived):
            m.d.sync += total.eq(following[1:])
            with m.If(ends):
                m.d.sync += total.eq(0)
        with m.If(en):
            m.d.sync += [
                self.result.valid.eq(arrived & ends),
                self.result.payload.eq(following[1:]),
            ]
        return m

    def _sequence(self, m: Module, accept: Value) -> Value:
        """Return where in the vector the offered entry's weight belongs."""
        entry = self.weight.payload
        begin, position = Signal(self.spec.address_bits), Signal(self.spec.address_bits)
        m.d.comb += position.eq(begin + entry.run)
        with m.If(accept):
            m.d.sync += begin.eq(Mux(entry.last, 0, position + 1))
        return position

    def _vector(self, m: Module, vectors: TileHandshake, en: Value, position: Value) -> Value:
        """Return the activation at a position, a clock later."""
        spec = self.spec
        depth = 2 << spec.address_bits
        # The vector that is written is never the one that is read, which synthesis cannot see.
        m.submodules.memory = memory = Memory(
            shape=spec.act_shape, depth=depth, init=[], attrs={"no_rw_check": 1}
        )
        read, write = memory.read_port(), memory.write_port()
        count = Signal(spec.address_bits)
        take = self.act.valid & self.act.ready
        m.d.comb += [
            self.act.ready.eq(vectors.writable),
            vectors.filled.eq(take & self.act.payload.last),
            write.addr.eq(Cat(count, ~vectors.bank)),
            write.data.eq(self.act.payload.value),
            write.en.eq(take),
            read.addr.eq(Cat(position, vectors.bank)),
            read.en.eq(en),
        ]
        with m.If(take):
            m.d.sync += count.eq(Mux(self.act.payload.last, 0, count + 1))
        return read.data


def _clocked(m: Module, value: Value, en: Value, name: str) -> Signal:
    held = Signal(name=name)
    with m.If(en):
        m.d.sync += held.eq(value)
    return held


def _shifted(m: Module, spec: SkipSpec, act: Value, code: Value, en: Value) -> tuple[Any, Any]:
    """Return a registered shift of an activation less its sign, and the sign."""
    number = Cat(act, Const(0, int(not spec.act_signed))).as_signed()
    shifter = Shifter("lut4", spec.weight_bits, len(number))
    word = delay(m, shifter.recode(m, code, "control"), 1, en, "control_q")
    product = shifter.product(
        m, number, word, lambda value, name: delay(m, value, 1, en, name), "product"
    )
    return product, delay(m, shifter.sign(word), 1, en, "sign")


def _multiplied(m: Module, act: Value, code: Value, en: Value) -> tuple[Any, Any]:
    """Return a registered product, the synthesis tool's own, to compare with."""
    weight = delay(m, code, 1, en, "weight_q").as_signed()
    return delay(m, act * weight, 1, en, "product"), Const(0, 1)
