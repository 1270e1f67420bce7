"""What multiplier-free cores are compared with: multipliers and full look-up, at the same ports."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from mulfree.arith.booth import Digit, digits_of, partial_product, recode
from mulfree.arith.compress import BitHeap
from mulfree.arith.trees import Term, add_tree, delay, levels, shape_for, spread
from mulfree.spec import Spec, SpecError, choice, integer
from mulfree.units.core import Core, CoreSpec, TileHandshake, WeightRegisters

#: How a product is made, and the scheme that adds up the rows of each.
SCHEMES = {
    "star": "dadda",
    "direct": "dadda",
    "array": "array",
    "wallace": "wallace",
    "dadda": "dadda",
    "booth": "dadda",
}

#: Widest activation that is looked up whole: 1024 entries a table.
DIRECT_BITS = 10


@dataclass(frozen=True, kw_only=True)
class BaselineSpec(CoreSpec):
    """Conventional multipliers, or full look-up tables, behind a core's ports."""

    unit: ClassVar[str] = "baseline"

    form: str = choice(
        "star", tuple(SCHEMES), "how a product is made; star leaves it to the synthesis tool"
    )
    reduce: str = choice(
        "tree", ("tree", "carry-save"), "how lanes are summed; carry-save adds all rows at once"
    )
    pipeline: int = integer(1, 0, 8, "register ranks from activations to result")

    def check(self) -> None:
        """Check the core's rules, and that a full look-up stays within reason."""
        super().check()
        if self.form == "direct" and self.act_bits > DIRECT_BITS:
            raise SpecError(
                f"act_bits must be at most {DIRECT_BITS} when form is direct, not {self.act_bits}"
            )
        if self.form == "direct" and self.fill_lanes:
            raise SpecError(f"fill_lanes must be 0 when form is direct, not {self.fill_lanes}")

    @property
    def load_clocks(self) -> int:
        """Clock edges from a tile's first beat to its first use; a full look-up's tables are slow.

        `CoreSpec.load_clocks` says more. The beat counts from where it is offered.
        """
        clocks = super().load_clocks
        if self.loadable and self.form == "direct":
            clocks += self.load_beats * ((1 << self.act_bits) - 1)
        return clocks

    @property
    def latency(self) -> int:
        """Register ranks from an activation to its result."""
        return self.pipeline

    def variants(self, fixed: frozenset[str] = frozenset()) -> list[Spec]:
        """Return itself, and one with registers behind the products and every rank of the tree.

        Registers keep Yosys from merging products and tree into one carry-save adder, which on
        FPGAs is most often the larger one.
        """
        pipelined = replace(self, pipeline=min(1 + levels(self.lanes), 8))
        return [self] if "pipeline" in fixed or pipelined == self else [self, pipelined]

    def component(self) -> "Baseline":
        """Build the core."""
        return Baseline(self)


class Baseline(Core):
    """A core of conventional multipliers.

    Register ranks are spread evenly over the levels of adders, the last behind the last level;
    ranks that find no level of their own delay the result.
    """

    def elaborate(self, platform: object) -> Module:
        """Build weights or tables, the rows of every product, and the sum of each output."""
        m = Module()
        spec = self.spec
        assert isinstance(spec, BaselineSpec)
        products = _lookups(m, self, spec) if spec.form == "direct" else _rows(m, self, spec)
        sums = _add_lanes if spec.reduce == "tree" else _add_rows
        for o in range(spec.outputs):
            taps = products[o :: spec.outputs]
            m.d.comb += self.result[o].eq(sums(m, spec, taps, self.en, f"output_{o}"))
        return m


class _Product(NamedTuple):
    """One product as rows yet to be added, and its range."""

    rows: list[Term]
    bounds: tuple[int, int]


def _corners(spec: BaselineSpec, weight: Value) -> tuple[int, int]:
    """Return the range of activation × weight."""
    weights = [weight.value] if isinstance(weight, Const) else spec.weight_range
    ends = [a * w for a in (spec.act_format.low, spec.act_format.high) for w in weights]
    return min(ends), max(ends)


def _connect(m: Module, core: Baseline, source: Any) -> None:
    """Give a submodule with the ports of a weight store the load ports of the core."""
    m.d.comb += [
        source.weight.payload.eq(core.weight.payload),
        source.weight.valid.eq(core.weight.valid),
        core.weight.ready.eq(source.weight.ready),
        source.retire.eq(core.retire),
        core.loaded.eq(source.loaded),
    ]


def _rows(m: Module, core: Baseline, spec: BaselineSpec) -> list[_Product]:
    """Return the products in the order of the weight stream."""
    words = spec.outputs * spec.lanes
    if spec.loadable:
        m.submodules.weights = store = WeightRegisters(
            spec.weight_shape, words, spec.double_buffer, spec.load_weights
        )
        _connect(m, core, store)
        weights = [store.tile[word] for word in range(words)]
    else:
        assert spec.matrix is not None
        weights = [
            Const(w, spec.weight_shape) for lane in zip(*spec.matrix, strict=True) for w in lane
        ]
    products = []
    for lane in range(spec.lanes):
        act = core.act[lane]
        digits = _digits(m, act, f"digit_{lane}") if spec.form == "booth" else []
        for o in range(spec.outputs):
            weight = weights[lane * spec.outputs + o]
            if spec.form == "star":
                rows = [Term(act * weight, bounds=_corners(spec, weight))]
            elif isinstance(weight, Const):
                rows = _constant_rows(spec, act, weight.value)
            elif spec.form == "booth":
                rows = [
                    term
                    for place, digit in enumerate(digits)
                    for term in partial_product(digit, weight, 2 * place)
                ]
            else:
                rows = _binary_rows(act, weight)
            products.append(_Product(rows, _corners(spec, weight)))
    return products


def _digits(m: Module, act: Value, name: str) -> list[Digit]:
    """Return the recoded activation, as signals that every output shares."""
    digits = []
    for i, digit in enumerate(recode(act)):
        shared = Signal(3, name=f"{name}_{i}")
        m.d.comb += shared.eq(Cat(*digit))
        digits.append(Digit(*shared))
    return digits


def _binary_rows(act: Value, weight: Value) -> list[Term]:
    """Return the rows of a binary multiplier: the weight wherever the activation has a one."""
    top = len(act) - 1 if act.shape().signed else None
    bits = weight.as_unsigned()  # a signed operand would be extended against the mask
    return [
        Term((bits & act[place].replicate(len(bits))).as_signed(), place, place == top)
        for place in range(len(act))
    ]


def _constant_rows(spec: BaselineSpec, act: Value, weight: int) -> list[Term]:
    """Return the rows of a product with a constant: none for a zero digit of the weight."""
    if spec.form == "booth":
        digits = enumerate(digits_of(weight))
        return [Term(act, 2 * i + (abs(d) == 2), d < 0) for i, d in digits if d]
    top = spec.weight_bits - 1
    return [Term(act, i, i == top) for i in range(spec.weight_bits) if weight >> i & 1]


def _add_lanes(
    m: Module, spec: BaselineSpec, taps: list[_Product], enable: Value, name: str
) -> Value:
    """Return the sum of whole products in an adder tree."""
    products = [
        _Summation(m, tap.rows, spec.product_bits, SCHEMES[spec.form], enable, f"{name}_{lane}")
        for lane, tap in enumerate(taps)
    ]
    ahead, behind = max(product.depth for product in products), levels(len(taps))
    ranks = spread(ahead + behind, min(spec.pipeline, ahead + behind))
    ranks_ahead = sum(level <= ahead for level in ranks)
    terms = [
        Term(product.build(ranks_ahead), bounds=tap.bounds)
        for product, tap in zip(products, taps, strict=True)
    ]
    registers = spread(behind, len(ranks) - ranks_ahead)
    total = add_tree(m, terms, registers=registers, enable=enable, name=name)
    return delay(m, total.value, spec.pipeline - len(ranks), enable, f"{name}_late")


def _add_rows(
    m: Module, spec: BaselineSpec, taps: list[_Product], enable: Value, name: str
) -> Value:
    """Return the sum of the rows of all products at once."""
    rows = [row for tap in taps for row in tap.rows]
    total = _Summation(m, rows, spec.dot_bits, SCHEMES[spec.form], enable, name)
    return total.build(spec.pipeline)


class _Summation:
    """The sum of rows modulo 2^width, and how many levels it has before it is built.

    One row needs no adder and two need only the last; more go through a heap.
    """

    def __init__(
        self, m: Module, rows: list[Term], width: int, scheme: str, enable: Value, name: str
    ) -> None:
        self._m, self._rows, self._enable, self._name = m, rows, enable, name
        self._heap = BitHeap(width, rows)
        self._plan = self._heap.plan(scheme) if len(rows) > 2 else []
        self.depth = len(self._plan) + 1

    def build(self, ranks: int) -> Any:
        """Build it with so many ranks of registers, and return the sum."""
        own = min(ranks, self.depth)
        if len(self._rows) <= 2:
            registers = (levels(len(self._rows)),) if own else ()
            total = add_tree(
                self._m, self._rows, registers=registers, enable=self._enable, name=self._name
            ).value
        else:
            total = self._heap.sum(
                self._m,
                self._plan,
                registers=spread(self.depth, own),
                enable=self._enable,
                name=self._name,
            ).as_signed()
        return delay(self._m, total, ranks - own, self._enable, f"{self._name}_late")


class LookupTables(wiring.Component):
    """A table of every multiple of each weight, filled by additions while the weight is offered.

    Filling takes ``2^act_bits`` edges a weight: the multiples of 0, 1, 2, … by adding the weight to
    the one before, then those of -1, -2, … by subtracting it. The weight is accepted on the last of
    them.

    Members
    -------
    weight, retire, loaded
        As in `Core`.
    act : In(spec.act_shape × lanes)
        What is looked up.
    product : Out(signed(spec.product_bits) × outputs·lanes)
        Multiples, in the order of the weight stream, without a clock edge between.
    """

    def __init__(self, spec: BaselineSpec) -> None:
        super().__init__(
            {
                "weight": In(stream.Signature(spec.weight_shape)),
                "retire": In(1),
                "loaded": Out(1),
                "act": In(data.ArrayLayout(spec.act_shape, spec.lanes)),
                "product": Out(
                    data.ArrayLayout(signed(spec.product_bits), spec.outputs * spec.lanes)
                ),
            }
        )
        self._spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the multiples' adder, the counters and a memory for each weight."""
        m = Module()
        spec = self._spec
        words = spec.outputs * spec.lanes
        m.submodules.handshake = handshake = TileHandshake(spec.double_buffer)
        place = Signal(spec.act_bits)  # how many entries are written
        word = Signal(range(words))  # whose table it is
        entry = Signal(signed(spec.product_bits))
        last_place, last_word = place.all(), word == words - 1
        write = self.weight.valid & handshake.writable
        m.d.comb += [
            self.weight.ready.eq(handshake.writable & last_place),
            handshake.filled.eq(write & last_place & last_word),
            handshake.retire.eq(self.retire),
            self.loaded.eq(handshake.loaded),
        ]
        weight = self.weight.payload
        following = Signal.like(entry)
        if spec.act_signed:
            # The second half of the entries are those of -1 downwards.
            half = (1 << (spec.act_bits - 1)) - 1
            turn = place == half
            down = turn | place[-1]
            step = weight.as_unsigned() ^ down.replicate(len(weight))
            m.d.comb += following.eq(Mux(turn, 0, entry) + step.as_signed() + down)
            number = place ^ Mux(place[-1], half, 0)
        else:
            m.d.comb += following.eq(entry + weight)
            number = place
        with m.If(write):
            m.d.sync += [place.eq(place + 1), entry.eq(Mux(last_place, 0, following))]
            with m.If(last_place):
                m.d.sync += word.eq(Mux(last_word, 0, word + 1))
        banks = 2 if spec.double_buffer else 1
        for i in range(words):
            memory = Memory(shape=signed(spec.product_bits), depth=banks << spec.act_bits, init=[])
            m.submodules[f"table_{i}"] = memory
            read, port = memory.read_port(domain="comb"), memory.write_port()
            # The upper half of two buffers' addresses is the second buffer.
            bank = [handshake.bank] if spec.double_buffer else []
            m.d.comb += [
                read.addr.eq(Cat(self.act[i // spec.outputs], *bank)),
                self.product[i].eq(read.data),
                port.addr.eq(Cat(number[: spec.act_bits], *(~b for b in bank))),
                port.data.eq(entry),
                port.en.eq(write & (word == i)),
            ]
        return m


def _lookups(m: Module, core: Baseline, spec: BaselineSpec) -> list[_Product]:
    """Return the products out of tables, in the order of the weight stream."""
    words = spec.outputs * spec.lanes
    if spec.loadable:
        m.submodules.tables = tables = LookupTables(spec)
        _connect(m, core, tables)
        m.d.comb += tables.act.eq(core.act)
        corners = _corners(spec, tables.weight.payload)
        return [_Product([Term(tables.product[w], bounds=corners)], corners) for w in range(words)]
    assert spec.matrix is not None
    products = []
    for word, weight in enumerate(w for lane in zip(*spec.matrix, strict=True) for w in lane):
        corners = _corners(spec, Const(weight, spec.weight_shape))
        product = Signal(shape_for(corners), name=f"product_{word}")
        act = core.act[word // spec.outputs]
        with m.Switch(act):
            for value in spec.act_format.values().tolist():
                with m.Case(value):
                    m.d.comb += product.eq(value * weight)
        products.append(_Product([Term(product, bounds=corners)], corners))
    return products
