"""Proof that early termination never changes a result of the bit-plane array's row."""

from amaranth.hdl import Assert, Assume, Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from mulfree.units.bitplane import BitPlaneSpec, Row
from mulfree_sim.formal import Proof, of_component


def proofs(spec: BitPlaneSpec) -> list[Proof]:
    """Return the proof of the row; every row of an array is the same."""
    row = RowProof(spec)
    claim = "a row that stops early returns the soft threshold of the whole sum"
    return [of_component("early_termination", claim, row, "prove", row.depth)]


class RowProof(wiring.Component):
    """A `Row` beside a row that never stops, with inputs that the solver is free to choose.

    A vector takes a plane on every clock, as in the array without a stalled output; another may be
    loaded on the clock of its last plane or any time later. When its last plane is in, the row's
    result must be ``sign(S) · max(|S| − T, 0)`` of the whole sum S. From the load on all of the
    row's state is determined, so that induction over ``planes + 2`` clocks proves it for every
    sequence of vectors.

    Members
    -------
    load, threshold, weight, digit
        As in `Row`.
    """

    def __init__(self, spec: BitPlaneSpec) -> None:
        self.spec = spec
        top = spec.weight_of_plane(spec.levels)
        super().__init__(
            {
                "load": In(1),
                "threshold": In(spec.threshold_bits),
                "weight": In(range(top + 1)),
                "digit": In(Shape.cast(range(-top, top + 1))),
            }
        )

    @property
    def depth(self) -> int:
        """Clocks over which the induction goes."""
        return self.spec.planes + 3

    def elaborate(self, platform: object) -> Module:
        """Build both rows and the property."""
        m = Module()
        spec = self.spec
        m.submodules.row = row = Row(spec)
        weights = {spec.weight_of_plane(merge) for merge in range(spec.levels + 1)}

        left = Signal(range(spec.planes + 1))
        take = Signal()
        threshold = Signal.like(self.threshold)
        weight = Signal.like(self.weight)
        total = Signal(signed(spec.result_bits))
        ended = Signal()
        step = left != 0
        first = left == spec.planes
        m.d.comb += [
            take.eq(self.load & (left <= 1)),
            row.load.eq(take),
            row.step.eq(step),
            row.first.eq(first),
            row.digit.eq(self.digit),
            row.weight.eq(self.weight),
            # The array changes its thresholds only when it is empty.
            row.threshold.eq(Mux(take & ~step & ~ended, self.threshold, threshold)),
            Assert(left <= spec.planes),
            Assume((self.digit <= weight) & (self.digit >= -weight)),
            Assume(sum(self.weight == w for w in sorted(weights)) == 1),
        ]
        m.d.sync += ended.eq(left == 1)
        with m.If(step):
            m.d.sync += [left.eq(left - 1), total.eq(Mux(first, 0, total << 1) + self.digit)]
        with m.If(take):
            m.d.sync += [
                left.eq(spec.planes),
                threshold.eq(row.threshold),
                weight.eq(self.weight),
            ]

        size = abs(total)
        soft = Mux(size > threshold, Mux(total < 0, total + threshold, total - threshold), 0)
        with m.If(ended):
            m.d.comb += Assert(row.result == soft)
        return m
