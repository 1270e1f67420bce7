"""Power-of-two weights: bit shift and accumulate (BAC) instead of multiply and accumulate.

Przewlocka-Rus and Kryjak, "Energy efficient hardware acceleration of neural networks with
power-of-two quantisation", ICCVG 2022; the data path is this project's. docs/units/pot.md describes
the structures and when to pick which.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, unsigned
from amaranth.lib import wiring

from mulfree.arith.complement import Complement, add_complement_chain, add_complement_tree
from mulfree.arith.compress import BitHeap
from mulfree.arith.shifters import STRUCTURES, Shifter
from mulfree.arith.trees import Term, add_tree, delay, levels, spread
from mulfree.formats import PowerOfTwo
from mulfree.spec import Spec, SpecError, choice, integer
from mulfree.units import pot_select
from mulfree.units.core import Core, CoreSpec, WeightRegisters

#: Adders in a row between registers of a chain, where `pipeline` is derived.
CHAIN_REACH = 4


@dataclass(frozen=True, kw_only=True)
class PoTSpec(CoreSpec):
    """Power-of-two weights: a matrix-vector core that shifts and adds.

    A weight is the integer that its code stands for, ``±2^e``, zero, or a sum of two such; on the
    load stream it is its code. Constant weights are wires into the adder tree.
    """

    unit: ClassVar[str] = "pot"

    weight_bits: int = integer(4, 2, 6, "width of a term's code: a sign above an exponent field")
    terms: int = integer(1, 1, 2, "powers of two that a weight is the sum of")
    structure: str = choice("lut4", STRUCTURES, "look-up tables that the shifters are cut for")
    reduce: str = choice(
        "tree",
        ("tree", "chain", "carry-save"),
        "how lanes are summed; carry-save, for standard cells, selects rows and adds all at once",
    )
    pipeline: int = integer(-1, 0, 16, "register ranks among the adders", unset=-1)

    def check(self) -> None:
        """Check the core's rules, and derive the register ranks."""
        super().check()
        if self.reduce != "tree" and not self.loadable:
            raise SpecError(f"reduce must be tree when weights is constant, not {self.reduce}")
        depth = self.term_count if self.reduce == "chain" else max(1, levels(self.term_count))
        if self.pipeline == -1:
            derived = -(-depth // CHAIN_REACH) if self.reduce == "chain" else depth
            derived = 1 if self.reduce == "carry-save" else min(derived, 16)
            object.__setattr__(self, "pipeline", derived)
        if self.pipeline > depth:
            raise SpecError(
                f"pipeline must be at most the {self.reduce}'s {depth}, not {self.pipeline}"
            )

    @property
    def weight_format(self) -> PowerOfTwo:
        """How a weight is coded on the load stream."""
        return PowerOfTwo(self.weight_bits, self.terms)

    @property
    def weight_shape(self) -> Shape:
        """Amaranth shape of one code on the load stream, the first term in the low bits."""
        return unsigned(self.weight_bits * self.terms)

    @property
    def term_count(self) -> int:
        """Operands of each output's adders."""
        return self.lanes * self.terms

    @property
    def shifter(self) -> Shifter:
        """What makes a product."""
        number_bits = self.act_bits + (not self.act_signed)
        return Shifter(self.structure, self.weight_bits, number_bits)

    @property
    def latency(self) -> int:
        """Register of the activations, register of the products, ranks of the adders.

        The carry-save form has those of the adders alone.
        """
        return self.pipeline + (0 if self.reduce == "carry-save" else 2)

    @property
    def hold(self) -> int:
        """Enabled edges after the last activations on which the tile is still read."""
        if self.reduce == "carry-save":
            return 0
        if self.reduce == "chain":
            return 1 + max(1, self.pipeline)
        return 2 if self.shifter.late else 1

    def variants(self, fixed: frozenset[str] = frozenset()) -> list[Spec]:
        """Return the structures worth measuring; see `Spec.variants`."""
        own = {name: getattr(self, name) for name in fixed if hasattr(self, name)}
        found: list[Spec] = [self]
        for structure, reduce in (("lut4", "tree"), ("lut6", "tree"), ("lut6", "chain")):
            try:
                change = {"structure": structure, "reduce": reduce, "pipeline": -1}
                found.append(replace(self, **(change | own)))
            except SpecError:  # what is fixed does not go with this structure
                continue
        return list(dict.fromkeys(found)) if self.loadable else [self]

    def component(self) -> "PoT":
        """Build the core."""
        return PoT(self)


class PoT(Core):
    """Shifts every activation by every weight's exponent and adds what comes out.

    Codes are turned into control words as they are loaded. Activations are registered, shifted,
    registered again and summed; the ones that make negatives are carries of the adders.
    """

    def __init__(self, spec: PoTSpec) -> None:
        super().__init__(spec)
        self._spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the weights, the shifters and the adders of each output."""
        m = Module()
        spec = self._spec
        act = [delay(m, self.act[lane], 1, self.en, f"act_{lane}_q") for lane in range(spec.lanes)]
        if spec.reduce == "carry-save":
            sums = self._carry_save_sums(m)
        else:
            sums = self._constant_sums(m, act) if spec.matrix else self._loadable_sums(m, act)
        for o in range(spec.outputs):
            m.d.comb += self.result[o].eq(sums[o])
        return m

    def _constant_sums(self, m: Module, act: list[Value]) -> list[Value]:
        """Add wires: a constant shift is none of logic."""
        spec = self._spec
        depth = levels(spec.term_count)
        inner = min(spec.pipeline, depth)
        sums = []
        for o, row in enumerate(spec.matrix or ()):
            terms = []
            for number, weight in zip(act, row, strict=True):
                for term in spec.weight_format.split(weight):
                    shift = abs(term).bit_length() - 1
                    terms.append(Term(number, shift, term < 0) if term else Term(Const(0, 1)))
            registers = (0, *spread(depth, inner))
            total = add_tree(m, terms, registers=registers, enable=self.en, name=f"sum_{o}")
            behind = spec.pipeline - inner
            sums.append(delay(m, total.value, behind, self.en, f"sum_{o}_late"))
        return sums

    def _carry_save_sums(self, m: Module) -> list[Value]:
        spec = self._spec
        m.submodules.weights = store = WeightRegisters(
            spec.weight_shape, spec.outputs * spec.lanes, spec.double_buffer
        )
        wiring.connect(m, wiring.flipped(self.weight), store.weight)
        m.d.comb += [store.retire.eq(self.retire), self.loaded.eq(store.loaded)]
        sums = []
        for o in range(spec.outputs):
            terms = []
            for lane in range(spec.lanes):
                word = store.tile[lane * spec.outputs + o]
                for t in range(spec.terms):
                    code = word.word_select(t, spec.weight_bits)
                    name = f"row_{o}_{lane}_{t}"
                    terms += pot_select.rows(
                        m, self.act[lane], code, spec.weight_bits, spec.act_signed, name
                    )
            heap = BitHeap(spec.dot_bits, terms)
            plan = heap.plan("dadda")
            ranks = min(spec.pipeline, len(plan) + 1)
            registers = spread(len(plan) + 1, ranks)
            total = heap.sum(m, plan, registers=registers, enable=self.en, name=f"sum_{o}")
            behind = spec.pipeline - ranks
            sums.append(delay(m, total.as_signed(), behind, self.en, f"sum_{o}_late"))
        return sums

    def _loadable_sums(self, m: Module, act: list[Value]) -> list[Value]:
        spec = self._spec
        words = self._control_words(m)
        add = self._chain if spec.reduce == "chain" else self._tree
        # Signed numbers of every lane, as late as the chain needs them; all outputs share them.
        numbers = [[Cat(x, Const(0, int(not spec.act_signed))).as_signed()] for x in act]
        return [add(m, numbers, words[o], f"output_{o}") for o in range(spec.outputs)]

    def _tree(self, m: Module, numbers: list[list[Value]], words: list[Value], name: str) -> Value:
        spec = self._spec
        terms = []
        for i, word in enumerate(words):
            product = self._product(m, numbers[i // spec.terms][0], word, f"{name}_{i}")
            sign = delay(m, spec.shifter.sign(word), 1, self.en, f"{name}_{i}_sign")
            terms.append(Complement(product, sign))
        depth = max(1, levels(len(terms)))
        return add_complement_tree(
            m,
            terms,
            spec.dot_bits,
            registers=spread(depth, spec.pipeline),
            enable=self.en,
            name=name,
        )

    def _chain(self, m: Module, numbers: list[list[Value]], words: list[Value], name: str) -> Value:
        spec = self._spec
        products: dict[int, Value] = {}

        def term(i: int, ranks: int) -> Complement:
            if i not in products:
                late = numbers[i // spec.terms]
                while len(late) <= ranks:
                    stem = f"number_{i // spec.terms}_{len(late)}"
                    late.append(delay(m, late[-1], 1, self.en, stem))
                products[i] = self._product(m, late[ranks], words[i], f"{name}_{i}")
            # The tile stays, so its sign bit is right at any time.
            return Complement(products[i], spec.shifter.sign(words[i]))

        return add_complement_chain(
            m,
            term,
            len(words),
            spec.dot_bits,
            registers=spread(len(words), spec.pipeline),
            enable=self.en,
            name=name,
        )

    def _product(self, m: Module, number: Value, word: Value, name: str) -> Value:
        return self._spec.shifter.product(
            m, number, word, lambda value, stem: delay(m, value, 1, self.en, stem), name
        )

    def _control_words(self, m: Module) -> list[list[Value]]:
        """Return each output's control words, the terms of lane 0 first."""
        spec = self._spec
        shifter = spec.shifter
        codes = Value.cast(self.weight.payload)
        terms = spec.load_weights * spec.terms  # that come together
        control = Cat(
            shifter.recode(m, codes.word_select(t, spec.weight_bits), f"control_{t}")
            for t in range(terms)
        )
        m.submodules.weights = store = WeightRegisters(
            unsigned(len(control) // spec.load_weights),
            spec.outputs * spec.lanes,
            spec.double_buffer,
            spec.load_weights,
        )
        m.d.comb += [
            store.weight.payload.eq(control),
            store.weight.valid.eq(self.weight.valid),
            self.weight.ready.eq(store.weight.ready),
        ]
        self._retire_late(m, store)
        return [
            [
                store.tile[lane * spec.outputs + o].word_select(t, shifter.control_bits)
                for lane in range(spec.lanes)
                for t in range(spec.terms)
            ]
            for o in range(spec.outputs)
        ]

    def _retire_late(self, m: Module, store: WeightRegisters) -> None:
        """Give the tile back once the last activations have passed what reads it."""
        pending = Signal(self._spec.hold)
        with m.If(self.en):
            m.d.sync += pending.eq(Cat(self.retire, pending))
        with m.Elif(self.retire):
            m.d.sync += pending[0].eq(1)
        m.d.comb += [
            store.retire.eq(pending[-1] & self.en),
            self.loaded.eq(store.loaded & ~pending.any()),
        ]
