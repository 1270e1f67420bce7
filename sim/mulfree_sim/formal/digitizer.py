"""Proof that the digitisers find the code of every level."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from mulfree.units.digitizer import Digitizer, DigitizerSpec
from mulfree_sim.formal import Proof, of_component


def proofs(spec: DigitizerSpec) -> list[Proof]:
    """Return the proof of the controller."""
    proof = DigitizerProof(spec)
    claim = "every level gets its code, in order, whatever waits for whatever"
    return [of_component("codes", claim, proof, "bmc", proof.depth)]


class DigitizerProof(wiring.Component):
    """A `Digitizer` with ideal comparators; levels and both handshakes are the solver's to choose.

    Members
    -------
    level : In(bits)
        The level that is offered.
    valid, ready : In(1), In(1)
        A level is offered; the code is taken.
    """

    def __init__(self, spec: DigitizerSpec) -> None:
        self.spec = spec
        super().__init__({"level": In(spec.bits), "valid": In(1), "ready": In(1)})

    @property
    def depth(self) -> int:
        """Clocks: two conversions, the second begun before the first code is taken."""
        longest = max(self.spec.tree.depths()) if self.spec.mode == "tree" else self.spec.bits
        return 2 * longest + 4

    def elaborate(self, platform: object) -> Module:
        """Build the loop and the property."""
        m = Module()
        m.submodules.digitizer = digitizer = Digitizer(self.spec)
        held, before = Signal(self.spec.bits), Signal(self.spec.bits)
        inside = Signal(2)  # levels taken whose codes have not been
        take = self.valid & digitizer.sample.ready
        leave = digitizer.code.valid & self.ready
        m.d.comb += [
            digitizer.sample.valid.eq(self.valid),
            digitizer.code.ready.eq(self.ready),
            *(
                digitizer.above[k].eq(held >= digitizer.reference[k])
                for k in range(self.spec.comparators)
            ),
        ]
        m.d.sync += inside.eq(inside + take - leave)
        with m.If(take):
            m.d.sync += [before.eq(held), held.eq(self.level)]
        waited = Signal()  # for this code, on the clock before
        code = Signal(self.spec.bits)
        m.d.sync += [
            waited.eq(digitizer.code.valid & ~self.ready),
            code.eq(digitizer.code.payload),
        ]
        with m.If(digitizer.code.valid):
            m.d.comb += Assert(digitizer.code.payload == Mux(inside == 2, before, held))
            m.d.comb += Assert((inside == 1) | (inside == 2))
        with m.If(waited):
            m.d.comb += Assert(digitizer.code.valid & (digitizer.code.payload == code))
        return m
