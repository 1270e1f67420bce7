"""Digitiser: the controller that finds the code of an analog level through comparators.

Successive approximation, flash, a hybrid of both, and a search tree built from how often each level
occurs. The comparators and the DACs that make their references are outside: their outputs and codes
are ports. All modes find the same code; they differ in clocks, comparators and comparisons (arXiv
2307.03863, 2309.11048). The controller is ordinary digital logic: the energy figures of those
papers belong to their analog arrays.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree.formats.searchtree import SearchTree, best_tree
from mulfree.spec import Spec, SpecError, choice, integer, matrix


@dataclass(frozen=True, kw_only=True)
class DigitizerSpec(Spec):
    """A controller that digitises to `bits` bits."""

    unit: ClassVar[str] = "digitizer"

    mode: str = choice("sar", ("sar", "flash", "hybrid", "tree"), "how the code is searched")
    bits: int = integer(5, 1, 8, "width of a code")
    flash_bits: int = integer(0, 1, 7, "hybrid: bits found in the first clock", unset=0)
    depth: int = integer(0, 1, 255, "tree: most comparisons of a level (2 x bits unset)", unset=0)
    histogram: tuple | None = matrix("tree: how often each level occurs, a row of 2^bits counts")

    def check(self) -> None:
        """Check that each mode has its parameters and no other's."""
        if self.mode == "hybrid":
            if not 1 <= self.flash_bits < self.bits:
                rule = f"between 1 and {self.bits - 1} when mode is hybrid"
                raise SpecError(f"flash_bits must be {rule}, not {self.flash_bits}")
        elif self.flash_bits:
            raise SpecError(
                f"flash_bits must be left out unless mode is hybrid, not {self.flash_bits}"
            )
        if self.mode == "tree":
            if self.histogram is None:
                raise SpecError("histogram must be given when mode is tree, not None")
            shape = len(self.histogram), len(self.histogram[0])
            if shape != (1, 1 << self.bits):
                raise SpecError(
                    f"histogram must have 1 row of {1 << self.bits}, not {shape[0]} of {shape[1]}"
                )
            if self.depth and self.depth < self.bits:
                raise SpecError(f"depth must be at least bits, {self.bits}, not {self.depth}")
            if min(self.histogram[0]) < 0:
                raise SpecError(
                    f"histogram must have counts of at least 0, not {min(self.histogram[0])}"
                )
            if sum(self.histogram[0]) >> 32:
                total = sum(self.histogram[0])
                raise SpecError(f"histogram must have less than 2^32 counts in all, not {total}")
        else:
            if self.depth:
                raise SpecError(f"depth must be left out unless mode is tree, not {self.depth}")
            if self.histogram is not None:
                raise SpecError("histogram must be left out unless mode is tree, not given")

    @property
    def first_bits(self) -> int:
        """Bits found in the first clock, by comparators side by side."""
        return {"flash": self.bits, "hybrid": self.flash_bits}.get(self.mode, 1)

    @property
    def comparators(self) -> int:
        """Comparators, each with a reference of its own."""
        return (1 << self.first_bits) - 1

    @cached_property
    def tree(self) -> SearchTree:
        """The search tree of mode tree."""
        assert self.histogram is not None
        return best_tree(self.histogram[0], self.depth or 2 * self.bits)

    def component(self) -> wiring.Component:
        """Build the controller."""
        return Digitizer(self)


class Digitizer(wiring.Component):
    """The controller: one decision of every strobed comparator a clock.

    A conversion starts on the clock after `sample` is taken; the analog level is held until the
    next is. It takes ``1 + bits − first_bits`` clocks, or as many as the level's depth in the tree,
    and another can follow without a gap. While a code waits at the output, nothing is strobed.

    Members
    -------
    sample : In(handshake)
        valid: an analog level is at the comparators from the next clock on; ready: it is taken.
    reference : Out(unsigned(bits) × comparators)
        Codes of the references: comparator k is to answer whether the level is at least
        ``reference[k]``, which is never 0.
    strobe : Out(comparators)
        Which comparators decide on this clock. A level that is asked for is read at the end of it.
    above : In(comparators)
        Their answers. Flash counts the ones, so that a bubble costs one step at most.
    code : Out(stream of unsigned(bits))
        The code: the highest threshold that the level reaches.
    """

    port_help = {
        "sample": "an analog level is at the comparators from the next clock on",
        "reference": "code of each comparator's reference",
        "strobe": "comparators that decide on this clock",
        "above": "comparator outputs: the level is at least the reference",
        "code": "the level's code",
    }

    def __init__(self, spec: DigitizerSpec) -> None:
        super().__init__(
            {
                "sample": In(wiring.Signature({"valid": Out(1), "ready": In(1)})),
                "reference": Out(data.ArrayLayout(spec.bits, spec.comparators)),
                "strobe": Out(spec.comparators),
                "above": In(spec.comparators),
                "code": Out(stream.Signature(spec.bits)),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the controller."""
        m = Module()
        busy = Signal()
        step = Signal()
        final = Signal()  # this step finds the code
        found = Signal(self.spec.bits)
        take = Signal()
        m.d.comb += [
            step.eq(busy & (~self.code.valid | self.code.ready)),
            self.sample.ready.eq(~busy | (step & final)),
            take.eq(self.sample.valid & self.sample.ready),
        ]
        m.d.sync += [
            busy.eq(take | (busy & ~(step & final))),
            self.code.valid.eq((step & final) | (self.code.valid & ~self.code.ready)),
        ]
        with m.If(step & final):
            m.d.sync += self.code.payload.eq(found)
        if self.spec.mode == "tree":
            self._tree(m, take, step, final, found)
        else:
            self._successive(m, take, step, final, found)
        return m

    def _tree(self, m: Module, take: Signal, step: Signal, final: Signal, found: Signal) -> None:
        """Walk the tree: the state is the threshold to compare with."""
        tree = self.spec.tree
        node = Signal(self.spec.bits)
        then = Signal(self.spec.bits)
        with m.Switch(node):
            for t in range(1, 1 << self.spec.bits):
                with m.Case(t):
                    m.d.comb += then.eq(Mux(self.above[0], tree.above[t], tree.below[t]))
        m.d.comb += [
            self.reference[0].eq(node),
            self.strobe.eq(step),
            final.eq(then == 0),
            found.eq(Mux(self.above[0], node, node - 1)),
        ]
        with m.If(step):
            m.d.sync += node.eq(then)
        with m.If(take):
            m.d.sync += node.eq(tree.root)

    def _successive(
        self, m: Module, take: Signal, step: Signal, final: Signal, found: Signal
    ) -> None:
        """Find the first bits side by side, then a bit a clock with comparator 0."""
        spec = self.spec
        rest = spec.bits - spec.first_bits
        trial = Signal(rest + 1)  # one-hot; the top place is the first clock
        first = trial[rest]
        code = Signal(spec.bits)
        m.d.comb += [
            self.reference[0].eq(Mux(first, 1 << rest, code | trial[:rest])),
            *(self.reference[k].eq((k + 1) << rest) for k in range(1, spec.comparators)),
            self.strobe.eq(Mux(first, step.replicate(spec.comparators), step)),
            final.eq(trial[0]),
        ]
        ones = sum(self.above)
        with m.If(first):
            m.d.comb += found.eq(ones << rest)
        with m.Else():
            m.d.comb += found.eq(Mux(self.above[0], code | trial[:rest], code))
        with m.If(step):
            m.d.sync += [trial.eq(trial >> 1), code.eq(found)]
        with m.If(take):
            m.d.sync += trial.eq(1 << rest)
