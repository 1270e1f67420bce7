"""LUT-NA: multiply-accumulate by look-up, wide products cut into small ones.

The activation is cut into digits, a table gives W·d for each digit value, and the product is Σ
table[digit_c] · 2^(c · digit_bits) (Sen et al., "Look-Up Table based Neural Network Hardware",
2024; the decomposition is a reconstruction). docs/units/lutna.md describes the forms and when to
pick which.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib.memory import Memory

from mulfree.arith import digits
from mulfree.arith.compress import BitHeap
from mulfree.arith.trees import Term, add_tree, delay, levels, shape_for, spread
from mulfree.spec import Spec, SpecError, choice, flag, integer
from mulfree.units import lutna_shared
from mulfree.units.core import Core, CoreSpec, TileHandshake, WeightRegisters
from mulfree.units.tables import LaneStore, TableGenerator, TableWalker, lane_groups, walk

#: Longest address of a table in each kind of store; beyond it, tables outgrow every device.
ADDRESS_BITS = {
    "distributed": 8, "block": 12, "registers": 4, "split": 4, "constant": 8,
    "activations": 4,
}  # fmt: skip


#: Stores that take activations from the port and have no register of what is looked up.
DIRECT = ("block", "activations")


@dataclass(frozen=True, kw_only=True)
class LutNASpec(CoreSpec):
    """LUT-NA: a matrix-vector core whose products are looked up digit by digit."""

    unit: ClassVar[str] = "lutna"

    digit_bits: int = integer(
        0, 1, 16, "width of a digit: 1 to 4, or act_bits for one direct look-up", unset=0
    )
    table_lanes: int = integer(0, 1, 8, "lanes that share a table: 1, 2, 4 or 8", unset=0)
    tables: str = choice(
        "distributed",
        ("distributed", "block", "registers", "activations"),
        "where loadable tables are kept; activations: tables of theirs, shared by all outputs",
    )
    storage: str = choice(
        "full",
        ("full", "odd", "signed"),
        "entries kept: every one, odd multiples only, or (tables of activations) weights as digits "
        "from -2 to 2",
    )
    split_weight: int = integer(
        0, 1, 4, "cut the weight too, into digits of so many bits; 0 leaves it whole", unset=0
    )
    drop_digits: int = integer(0, 0, 15, "lowest digits left out, which makes it approximate")
    compensation: bool = flag(False, "count the dropped digits as half of their range")
    reduce: str = choice("tree", ("tree", "carry-save"), "how looked-up products are summed")
    pipeline: int = integer(
        -1, 0, 16, "register ranks in the adder tree, at most its levels", unset=-1
    )
    generators: int = integer(1, 1, 256, "outputs whose table entries are made at the same time")

    def check(self) -> None:
        """Fill in what is left to be derived, then check the rules between parameters."""
        super().check()
        self._derive_digits()
        store, digit, lanes = self.store, self.digit_bits, self.table_lanes
        widest = ADDRESS_BITS[store]
        rules = {
            f"digit_bits must be at most act_bits ({self.act_bits}), not {digit}": digit
            <= self.act_bits,
            f"digit_bits must be 1 to 4, or act_bits ({self.act_bits}), not {digit}": digit <= 4
            or digit == self.act_bits,
            f"table_lanes must be 1, 2, 4 or 8, not {lanes}": lanes in (1, 2, 4, 8),
            f"table_lanes must divide lanes ({self.lanes}), not {lanes}": self.lanes % lanes == 0,
            f"table_lanes must be 1 for {store} tables, not {lanes}": lanes == 1
            or store not in ("registers", "split"),
            f"digit_bits × table_lanes must be at most {widest} for {store} tables, "
            f"not {digit * lanes}": digit * lanes <= widest,
            f"storage must be full for {store} tables, not {self.storage}": self.storage == "full"
            or store not in ("constant", "split"),
            f"storage must be full or signed for {store} tables, not odd": self.storage != "odd"
            or store != "activations",
            f"storage must be full or odd for {store} tables, not signed": not self.signed_digits
            or store == "activations",
            f"digit_bits must be 2 for signed storage, not {digit}": not self.signed_digits
            or digit == 2,
            f"table_lanes must be 1 for signed storage, not {lanes}": not self.signed_digits
            or lanes == 1,
            f"drop_digits must be 0 for activations tables, not {self.drop_digits}": (
                store != "activations" or not self.drop_digits
            ),
            "storage must be full when digit_bits is 1 or table_lanes above 1, not odd": (
                self.storage == "full" or (digit > 1 and lanes == 1)
            ),
            f"split_weight must be 0 when weights is constant, not {self.split_weight}": (
                not self.split_weight or self.loadable
            ),
            f"drop_digits must be below the number of digits ({self.act_digits}), "
            f"not {self.drop_digits}": self.drop_digits < self.act_digits,
            "compensation must be false when drop_digits is 0, not True": (
                not self.compensation or self.drop_digits > 0
            ),
            f"generators must be 1 with fill_lanes, not {self.generators}": (
                not self.fill_lanes or self.generators == 1
            ),
            f"generators must divide outputs ({self.outputs}), not {self.generators}": (
                self.outputs % self.generators == 0
            ),
        }
        for sentence, holds in rules.items():
            if not holds:
                raise SpecError(sentence)
        depth = levels(self.term_count)
        if self.pipeline == -1:
            derived = min(1, depth) if store == "activations" else depth
            object.__setattr__(self, "pipeline", derived)
        if self.pipeline > depth:
            raise SpecError(f"pipeline must be at most the tree's {depth}, not {self.pipeline}")

    def _derive_digits(self) -> None:
        """Choose the digits and lanes of a table so that its address fills the memory's own."""
        address = {
            "distributed": 4,
            "block": 8,
            "registers": 2,
            "split": 4,
            "constant": 4,
            "activations": 2,
        }
        room, digit, lanes = address.get(self.store, 4), self.digit_bits, self.table_lanes
        if self.signed_digits:
            lanes, digit = lanes or 1, digit or 2
        joint = self.store in ("distributed", "block", "constant", "activations")
        if not lanes:
            most = (room // digit if digit else room) if joint and self.storage == "full" else 1
            fits = (n for n in (8, 4, 2) if n <= most and self.lanes % n == 0)
            lanes = next(fits, 1)
        if not digit:
            digit = max(1, min(self.act_bits, room // lanes))
            digit = digit if digit == self.act_bits else min(digit, 4)
        object.__setattr__(self, "table_lanes", lanes)
        object.__setattr__(self, "digit_bits", digit)

    @property
    def store(self) -> str:
        """What the tables are made of: constant, split, or what `tables` says."""
        if not self.loadable:
            return "constant"
        return "split" if self.split_weight else self.tables

    @property
    def signed_digits(self) -> bool:
        """Whether weights are kept as signed digits, which look activations up at the port."""
        return self.storage == "signed"

    @property
    def act_digits(self) -> int:
        """Digits of an activation."""
        return digits.count(self.act_bits, self.digit_bits)

    @property
    def weight_digits(self) -> int:
        """Digits of a weight; one where it is not split."""
        return digits.count(self.weight_bits, self.split_weight) if self.split_weight else 1

    @property
    def groups(self) -> int:
        """Lane groups that share a table."""
        return self.lanes // self.table_lanes

    @property
    def lane_groups(self) -> list[list[int]]:
        """The lanes of each group."""
        return lane_groups(self.table_lanes, self.groups, self.fill_lanes or 1)

    @property
    def blocks(self) -> int:
        """Blocks of outputs whose tables have activations and control in registers of their own.

        They are for large cores, which take wide beats. Four outputs' entries fill memories of four
        bits without a rest, but not a block RAM.
        """
        apart = self.store == "distributed" and self.fill_lanes and self.outputs % 4 == 0
        return self.outputs // 4 if apart else 1

    @property
    def compensation_value(self) -> int:
        """Multiple of W that stands for the dropped digits: half of their range, or nothing."""
        return 1 << (self.digit_bits * self.drop_digits - 1) if self.compensation else 0

    @property
    def term_count(self) -> int:
        """Operands of each output's adder tree."""
        if self.signed_digits:
            return self.lanes * digits.count(self.weight_bits, 2) + 2 - self.act_signed
        if self.store == "activations":
            widths = lutna_shared.place_widths(self.weight_bits, self.digit_bits)
            return self.groups * len(widths)
        looked_up = self.groups * (self.act_digits - self.drop_digits) * self.weight_digits
        compensating = {"constant": 1, "distributed": self.groups, "block": self.groups}
        corrections = self.lanes if self.store == "registers" and self.act_signed else 0
        return (
            looked_up
            + (compensating.get(self.store, self.lanes) if self.compensation else 0)
            + corrections
        )

    @property
    def in_memories(self) -> bool:
        """Whether tables lie in memories, which are filled word by word."""
        return self.store in ("distributed", "block")

    @property
    def passes(self) -> tuple[bool, ...]:
        """Whether digits are signed, for each set of tables: those of plain digits and of top ones.

        A signed top digit of one bit needs no tables of its own: it is subtracted.
        """
        top = self.act_signed and self.digit_bits > 1
        return (*([False] if self.act_digits > 1 or not top else []), *([True] * top))

    @property
    def walk_clocks(self) -> int:
        """Clocks in which tables in memories are filled from a whole tile of wide beats."""
        return len(walk(self.table_lanes, self.digit_bits, self.storage == "odd", self.passes))

    @property
    def load_clocks(self) -> int:
        """Clock edges from a tile's first beat to its first use: beats, and the making of tables.

        `CoreSpec.load_clocks` says more.
        """
        clocks = super().load_clocks
        if not self.in_memories:
            return clocks
        if self.fill_lanes:
            clocks += LaneStore.delay(self.table_lanes, self.fill_lanes)
            return clocks + self.walk_clocks + TableWalker.DELAY - (self.store != "block")
        address = self.table_lanes * (self.digit_bits - (self.storage == "odd"))
        visits = self.digit_bits * self.table_lanes * self.outputs // self.generators
        return clocks + 1 + self.groups * len(self.passes) * visits * (1 << address)

    @property
    def swap_clocks(self) -> int:
        """Clock edges from `retire` to the next tile's first use; `CoreSpec.swap_clocks` says more.

        A tile of wide beats is taken ahead, so that only the tables' making is seen.
        """
        if self.in_memories and self.fill_lanes and not self.double_buffer:
            return self.walk_clocks + TableWalker.DELAY
        return super().swap_clocks

    @property
    def hold(self) -> int:
        """Enabled edges after the last activations' own on which the weights are still read."""
        return int(self.store not in ("block", "constant") and not self.signed_digits)

    @property
    def latency(self) -> int:
        """Input register (a block RAM has its own), look-up register, ranks of the tree.

        Tables of activations are registers themselves, and their look-ups have none; signed digits
        have neither.
        """
        if self.signed_digits:
            return self.pipeline
        return (1 if self.store in DIRECT else 2) + self.pipeline

    def single(self) -> Self:
        """Return the same arithmetic for one lane and one output, loadable."""
        return replace(
            self,
            outputs=1,
            lanes=1,
            table_lanes=1,
            generators=1,
            fill_lanes=0,
            weights="loadable",
            matrix=None,
            double_buffer=False,
            pipeline=-1,
            tables="registers" if self.digit_bits <= 4 else "block",
            storage="full",
        )

    def variants(self, fixed: frozenset[str] = frozenset()) -> list[Spec]:
        """Return the structures worth measuring; see `Spec.variants`."""
        choices: list[dict[str, Any]] = [{}]
        if self.loadable and "split_weight" not in fixed:
            choices += [{"tables": tables} for tables in ("distributed", "block", "registers")]
        own = {name: getattr(self, name) for name in fixed if hasattr(self, name)}
        free = {"digit_bits": 0, "table_lanes": 0, "pipeline": -1}
        found = [self]
        for change in choices:
            try:
                found.append(replace(self, **(free | change | own)))
            except SpecError:  # what is fixed does not go with this structure
                continue
        return list(dict.fromkeys(found))

    def component(self) -> "LutNA":
        """Build the core."""
        return LutNA(self)


class LutNA(Core):
    """Looks up every digit of every activation and adds what it finds, digit by digit shifted.

    Activations are registered, looked up, registered again and summed in a tree; a block RAM's own
    input register takes the place of the first rank.
    """

    def elaborate(self, platform: object) -> Module:
        """Build the store, the look-ups and an adder tree for each output."""
        m = Module()
        spec = self.spec
        if spec.store in DIRECT or spec.blocks > 1:  # which have registers of their own
            act = [self.act[lane] for lane in range(spec.lanes)]
        else:
            act = self.registered(m, "act_q")
        terms = _STORES[spec.store](self, m, act)
        for o in range(spec.outputs):
            m.d.comb += self.result[o].eq(self._sum(m, terms[o], f"sum_{o}"))
        return m

    def _sum(self, m: Module, terms: list[Term], name: str) -> Value:
        """Return the sum of one output's terms, `spec.pipeline` ranks behind the look-up's own."""
        spec = self.spec
        heap, plan, depth = None, [], levels(spec.term_count)
        if spec.reduce == "carry-save":
            heap = BitHeap(spec.dot_bits, terms)
            plan = heap.plan("dadda")
            depth = len(plan) + 1
        ranks = spread(depth, min(spec.pipeline, depth))
        registers = ranks if spec.store in DIRECT else (0, *ranks)
        if heap is None:
            # Tables of one group are filled with the same words. In a large core, which takes wide
            # beats, they are summed first, so that they are placed together.
            total = add_tree(
                m, terms, registers=registers, enable=self.en, name=name,
                as_given=bool(spec.fill_lanes),
            ).value  # fmt: skip
        else:
            total = heap.sum(m, plan, registers=registers, enable=self.en, name=name).as_signed()
        return delay(m, total, spec.pipeline - len(ranks), self.en, f"{name}_late")

    def registered(self, m: Module, name: str, attrs: dict[str, Any] | None = None) -> list[Any]:
        """Return the activations in a register."""
        held = Signal.like(self.act, name=name, reset_less=True, attrs=attrs)
        with m.If(self.en):
            m.d.sync += held.eq(self.act)
        return [held[lane] for lane in range(self.spec.lanes)]

    def kept_digits(self, act: list[Value]) -> list[list[tuple[int, Value]]]:
        """Return (place, digit) of every kept digit, for every lane."""
        spec = self.spec
        return [list(enumerate(digits.cut(x, spec.digit_bits)))[spec.drop_digits :] for x in act]


def _constant(core: LutNA, m: Module, act: list[Value]) -> list[list[Term]]:
    """Fold every table into logic at generation."""
    spec = core.spec
    assert spec.matrix is not None
    kept = core.kept_digits(act)
    terms: list[list[Term]] = [[] for _ in range(spec.outputs)]
    for group, lanes in enumerate(spec.lane_groups):
        for index, (place, _) in enumerate(kept[0]):
            top = spec.act_signed and place == spec.act_digits - 1
            address = Cat(*(kept[lane][index][1] for lane in lanes))
            for o in range(spec.outputs):
                weights = [spec.matrix[o][lane] for lane in lanes]
                entries = _entries(weights, spec.digit_bits, top)
                bounds = min(entries), max(entries)
                entry = Signal(shape_for(bounds), name=f"entry_{o}_{group}_{place}")
                with m.Switch(address):
                    for at, value in enumerate(entries):
                        with m.Case(at):
                            m.d.comb += entry.eq(value)
                terms[o].append(Term(entry, place * spec.digit_bits, bounds=bounds))
    if spec.compensation:
        for o in range(spec.outputs):
            constant = sum(spec.matrix[o]) * spec.compensation_value
            terms[o].append(Term(Const(constant, shape_for((constant, constant)))))
    return terms


def _entries(weights: list[int], digit_bits: int, top: bool) -> list[int]:
    """Return Σ W_i·d_i for every address, the first lane's digit in the low bits."""
    size = 1 << digit_bits
    values = [d - size if top and d >= size // 2 else d for d in range(size)]
    entries = [0]
    for weight in weights:
        entries = [entry + weight * d for d in values for entry in entries]
    return entries


def _registers(core: LutNA, m: Module, act: list[Value]) -> list[list[Term]]:
    """Keep the multiples of every weight in flip-flops, made as the weight arrives."""
    spec = core.spec
    odd = spec.storage == "odd"
    payload = Value.cast(core.weight.payload)
    table = Cat(
        digits.multiples(m, payload.word_select(i, spec.weight_bits), spec.digit_bits, odd)
        for i in range(spec.load_weights)
    )
    width = spec.weight_bits + spec.digit_bits
    tile = _weight_registers(core, m, table)
    kept = core.kept_digits(act)
    terms: list[list[Term]] = [[] for _ in range(spec.outputs)]
    for lane in range(spec.lanes):
        for o in range(spec.outputs):
            stored = tile[lane * spec.outputs + o]
            weight = stored[: spec.weight_bits].as_signed()
            for place, digit in kept[lane]:
                product = digits.look_up(m, stored, digit, width, odd)
                terms[o].append(Term(product, place * spec.digit_bits))
            if spec.act_signed:
                padded = spec.act_digits * spec.digit_bits
                terms[o].append(digits.sign_correction(act[lane], weight, padded))
    _compensate(core, terms, lambda lane, o: tile[lane * spec.outputs + o][: spec.weight_bits])
    return terms


def _split(core: LutNA, m: Module, act: list[Value]) -> list[list[Term]]:
    """Cut the weight as well: one constant table of small products serves all."""
    spec = core.spec
    tile = _weight_registers(core, m, core.weight.payload)
    terms: list[list[Term]] = [[] for _ in range(spec.outputs)]
    for lane, kept in enumerate(core.kept_digits(act)):
        for o in range(spec.outputs):
            weight = tile[lane * spec.outputs + o].as_signed()
            for place, digit in kept:
                a = digit.as_signed() if _is_top(spec, place) else digit
                cut = digits.cut(weight, spec.split_weight)
                for at, w in enumerate(cut):
                    b = w.as_signed() if at == len(cut) - 1 else w
                    shift = place * spec.digit_bits + at * spec.split_weight
                    terms[o].append(Term(digits.small_product(m, a, b), shift))
    _compensate(core, terms, lambda lane, o: tile[lane * spec.outputs + o])
    return terms


def _activations(core: LutNA, m: Module, act: list[Value]) -> list[list[Term]]:
    """Keep the weights, or their signed digits; tables are of the activations at the port."""
    del act
    spec = core.spec
    if spec.signed_digits:
        payload = Value.cast(core.weight.payload)
        words = [
            lutna_shared.recoded(m, payload.word_select(i, spec.weight_bits), f"weight_{i}")
            for i in range(spec.load_weights)
        ]
        return lutna_shared.build_signed(core, m, _weight_registers(core, m, Cat(*words)))
    return lutna_shared.build(core, m, _weight_registers(core, m, core.weight.payload))


def _is_top(spec: LutNASpec, place: int) -> bool:
    return spec.act_signed and place == spec.act_digits - 1


def _compensate(core: LutNA, terms: list[list[Term]], weight: Any) -> None:
    """Add W·compensation_value for every lane and output."""
    spec = core.spec
    if spec.compensation:
        shift = spec.compensation_value.bit_length() - 1
        for lane in range(spec.lanes):
            for o in range(spec.outputs):
                terms[o].append(Term(weight(lane, o).as_signed(), shift))


def _weight_registers(core: LutNA, m: Module, payload: Any) -> list[Value]:
    """Return the words of a tile kept in flip-flops, each made from a weight as it arrives."""
    spec = core.spec
    words, together = spec.outputs * spec.lanes, spec.load_weights
    payload = Value.cast(payload)
    m.submodules.weights = store = WeightRegisters(
        len(payload) // together, words, spec.double_buffer, together
    )
    m.d.comb += [
        store.weight.payload.eq(payload),
        store.weight.valid.eq(core.weight.valid),
        core.weight.ready.eq(store.weight.ready),
    ]
    _connect_retire(core, m, store)
    return [store.tile[word] for word in range(words)]


def _connect_retire(core: LutNA, m: Module, store: Any) -> None:
    """Give the tile back once the registered activations have been looked up."""
    if not core.spec.hold:
        m.d.comb += [store.retire.eq(core.retire), core.loaded.eq(store.loaded)]
        return
    pending = Signal()
    with m.If(core.retire | core.en):
        m.d.sync += pending.eq(core.retire)
    m.d.comb += [
        store.retire.eq(pending & core.en),
        core.loaded.eq(store.loaded & ~pending),
    ]


class _Tables(NamedTuple):
    """Range and coding of joint table entries in memories."""

    plain: tuple[int, int]
    signed_top: tuple[int, int]
    entry_bits: int

    @classmethod
    def of(cls, spec: LutNASpec) -> "_Tables":
        low, high = spec.weight_range
        most, half = (1 << spec.digit_bits) - 1, 1 << (spec.digit_bits - 1)
        plain = low * most * spec.table_lanes, high * most * spec.table_lanes
        ends = [w * d * spec.table_lanes for w in (low, high) for d in (-half, half - 1)]
        top = min(ends), max(ends)
        uses_top = spec.act_signed and spec.digit_bits > 1
        ranges = [plain, top] if uses_top else [plain]
        return cls(plain, top, max(len(Const(0, shape_for(r))) for r in ranges))


def _memories(core: LutNA, m: Module, act: list[Value]) -> list[list[Term]]:
    """Keep a joint table for every lane group and digit place in a memory of its own."""
    spec = core.spec
    tables = _Tables.of(spec)
    odd, passes = spec.storage == "odd", spec.passes
    top_pass = passes[-1]
    m.submodules.handshake = handshake = TileHandshake(spec.double_buffer)
    fill = _walked if spec.fill_lanes else _generated
    fillings = fill(core, m, tables.entry_bits, handshake)
    if spec.store == "block":
        m.d.comb += [handshake.retire.eq(core.retire), core.loaded.eq(handshake.loaded)]
    else:
        _connect_retire(core, m, handshake)

    acts = [act]
    if spec.blocks > 1:
        acts = [core.registered(m, f"act_q_{b}", {"keep": 1}) for b in range(spec.blocks)]
    copies = [core.kept_digits(act) for act in acts]
    parts = [f"_{b}" for b in range(spec.blocks)] if spec.blocks > 1 else [""]
    outputs = spec.outputs // spec.blocks
    terms: list[list[Term]] = [[] for _ in range(spec.outputs)]
    for group, lanes in enumerate(spec.lane_groups):
        for index, (place, _) in enumerate(copies[0][0]):
            top = _is_top(spec, place)
            for block, (filling, kept) in enumerate(zip(fillings[group], copies, strict=True)):
                digits_here = [kept[lane][index][1] for lane in lanes]
                name = f"table_{group}_{place}{parts[block]}"
                write = filling.writes[top and top_pass]
                word = _memory(core, m, name, digits_here, top, filling, write, handshake.bank)
                for o in range(outputs):
                    entry = word.word_select(o, tables.entry_bits).as_signed()
                    shift = place * spec.digit_bits
                    if odd:
                        entry, known = _even_again(core, m, entry, digits_here[0]), None
                    else:
                        known = tables.signed_top if top and top_pass else tables.plain
                    term = Term(entry, shift, negate=top and spec.digit_bits == 1, bounds=known)
                    terms[block * outputs + o].append(term)
        if spec.compensation:
            weights = Cat(
                _weight_sum(core, m, filling, f"{group}{parts[block]}", handshake)
                for block, filling in enumerate(fillings[group])
            )
            for o in range(spec.outputs):
                total = weights.word_select(o, tables.entry_bits).as_signed()
                terms[o].append(Term(total, spec.compensation_value.bit_length() - 1))
    return terms


class _Filling(NamedTuple):
    """What writes the tables of one lane group for a block of outputs.

    Members
    -------
    address, word
        Where, and the entries of the block's outputs.
    writes
        Whether to write into the tables of plain digits, and of signed top ones.
    """

    address: Value
    word: Value
    writes: tuple[Value, Value]


def _generated(
    core: LutNA, m: Module, entry_bits: int, handshake: TileHandshake
) -> list[list[_Filling]]:
    """Fill the tables of one group after the other from weights that come one a beat."""
    spec = core.spec
    m.submodules.generator = generator = TableGenerator(
        outputs=spec.outputs,
        lanes=spec.table_lanes,
        groups=spec.groups,
        weight_bits=spec.weight_bits,
        entry_bits=entry_bits,
        digit_bits=spec.digit_bits,
        odd=spec.storage == "odd",
        passes=spec.passes,
        generators=spec.generators,
    )
    m.d.comb += [
        generator.hold.eq(~handshake.writable),
        generator.weight.payload.eq(core.weight.payload),
        generator.weight.valid.eq(core.weight.valid),
        core.weight.ready.eq(generator.weight.ready),
        handshake.filled.eq(generator.filled),
    ]
    fillings = []
    for write in generator.write:
        plain, top = write, write
        if len(spec.passes) > 1:
            plain, top = write & ~generator.signed_top, write & generator.signed_top
        fillings.append([_Filling(generator.address, generator.word, (plain, top))])
    return fillings


def _walked(
    core: LutNA, m: Module, entry_bits: int, handshake: TileHandshake
) -> list[list[_Filling]]:
    """Fill the tables of all groups at once from a whole tile of weights, taken ahead."""
    spec = core.spec
    row = spec.outputs // spec.blocks * entry_bits
    m.submodules.weights = tile = LaneStore(
        outputs=spec.outputs,
        lanes=spec.table_lanes,
        groups=spec.groups,
        bits=spec.weight_bits,
        fill_lanes=spec.fill_lanes,
    )
    m.submodules.walker = walker = TableWalker(
        outputs=spec.outputs,
        blocks=spec.blocks,
        lanes=spec.table_lanes,
        groups=spec.groups,
        weight_bits=spec.weight_bits,
        entry_bits=entry_bits,
        steps=walk(spec.table_lanes, spec.digit_bits, spec.storage == "odd", spec.passes),
        block=spec.store == "block",
    )
    free = handshake.writable
    if not spec.double_buffer:  # this edge gives the tile in use back
        free |= handshake.retire
    m.d.comb += [
        tile.weight.payload.eq(core.weight.payload),
        tile.weight.valid.eq(core.weight.valid),
        core.weight.ready.eq(tile.weight.ready),
        tile.retire.eq(walker.done),
        tile.lane.eq(walker.lane),
        walker.weights.eq(tile.weights),
        walker.start.eq(tile.loaded & free),
        handshake.filled.eq(walker.filled),
    ]
    return [
        [
            _Filling(
                walker.address[block],
                walker.words[group].word_select(block, row),
                (walker.write[block][False], walker.write[block][True]),
            )
            for block in range(spec.blocks)
        ]
        for group in range(spec.groups)
    ]


def _memory(
    core: LutNA, m: Module, name: str, digits_here: list[Value], top: bool,
    filling: _Filling, write: Value, bank: Signal,
) -> Value:  # fmt: skip
    """Build one table and return the word looked up."""
    spec = core.spec
    if spec.storage == "odd":
        address = _odd_index(m, digits_here[0], top)
    else:  # bit-major, as the generator counts
        address = Cat(*(Cat(*(d[bit] for d in digits_here)) for bit in range(spec.digit_bits)))
    read_address, write_address = address, filling.address
    if spec.double_buffer:
        read_address, write_address = Cat(address, bank), Cat(filling.address, ~bank)
    # A table is never read where it is written, which synthesis cannot see: without the second
    # attribute it would build logic for that case around every block RAM.
    attributes = {"ram_style": "block", "no_rw_check": 1} if spec.store == "block" else {}
    depth = 1 << len(write_address)
    m.submodules[name] = memory = Memory(
        shape=len(filling.word), depth=depth, init=[], attrs=attributes
    )
    port = memory.write_port()
    m.d.comb += [port.addr.eq(write_address), port.data.eq(filling.word), port.en.eq(write)]
    if spec.store == "block":
        read = memory.read_port()
        m.d.comb += read.en.eq(core.en)
    else:
        read = memory.read_port(domain="comb")
    m.d.comb += read.addr.eq(read_address)
    return read.data


def _odd_index(m: Module, digit: Value, top: bool) -> Value:
    """Return where the digit's odd part is kept: digit = (2 · index + 1) · 2^zeros."""
    value = digit.as_signed() if top else digit
    index = Signal(len(digit) - 1)
    for zeros in reversed(range(len(digit))):  # the lowest one bit has the last word
        with m.If(digit[zeros]):
            m.d.comb += index.eq(value >> (zeros + 1))
    return index


def _even_again(core: LutNA, m: Module, entry: Value, digit: Value) -> Value:
    """Return W·digit from the entry of its odd part: shifted, or zero."""
    if core.spec.store == "block":  # whose entry comes one edge after its digit
        digit = delay(m, digit, 1, core.en, "digit_q")
    product = Signal.like(entry, name="product")
    for zeros in reversed(range(len(digit))):
        with m.If(digit[zeros]):
            m.d.comb += product.eq(entry << zeros)
    return product


def _weight_sum(
    core: LutNA, m: Module, filling: _Filling, name: str, handshake: TileHandshake
) -> Value:
    """Return Σ W_i of a lane group, caught as it passes: the entry at which every digit is 1."""
    spec = core.spec
    ones = 0 if spec.storage == "odd" else (1 << spec.table_lanes) - 1
    caught = Signal(len(filling.word), name=f"weight_sum_{name}", reset_less=True)
    with m.If((filling.writes[0] | filling.writes[1]) & (filling.address == ones)):
        m.d.sync += caught.eq(filling.word)
    if spec.double_buffer:
        in_use = Signal.like(caught, name=f"weight_sum_{name}_in_use")
        with m.If(handshake.swap):
            m.d.sync += in_use.eq(caught)
        caught = in_use
    # A block RAM's entries come one edge after their activations, and the sum with them.
    return delay(m, caught, int(spec.store == "block"), core.en, f"weight_sum_{name}_q")


_STORES = {
    "constant": _constant,
    "registers": _registers,
    "split": _split,
    "activations": _activations,
    "distributed": _memories,
    "block": _memories,
}
