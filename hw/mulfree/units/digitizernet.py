"""Collaborative digitisation: arrays that take turns at computing and at being each other's
references.

While one array computes its product-sum, the neighbours, whose bit lines are idle, serve as the
capacitive DACs that digitise that array's previous, held result; then the roles move on by one
(arXiv 2307.03863, 2309.11048). Successive approximation and the search tree need one neighbour, so
two arrays swap roles; a flash of f bits needs 2^f − 1, of a group of 2^f.
"""

from dataclasses import dataclass
from typing import ClassVar

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree.spec import SpecError, integer
from mulfree.units.digitizer import Digitizer, DigitizerSpec


@dataclass(frozen=True, kw_only=True)
class DigitizerNetSpec(DigitizerSpec):
    """A group of arrays that digitise for each other."""

    unit: ClassVar[str] = "digitizernet"

    compute_cycles: int = integer(4, 1, 1024, "clocks in which an array makes its product-sum")

    def check(self) -> None:
        """Check that the group is not too large."""
        super().check()
        if self.first_bits > 6:
            raise SpecError(f"flash of a network must be of at most 6 bits, not {self.first_bits}")

    @property
    def arrays(self) -> int:
        """Arrays in a group: the one that computes and one for each reference."""
        return self.comparators + 1

    def component(self) -> "DigitizerNet":
        """Build the controller of the group."""
        return DigitizerNet(self)


class DigitizerNet(wiring.Component):
    """The controller of a group of arrays.

    In a phase, the array `turn` computes for `compute_cycles` clocks while the others digitise what
    it computed a round ago. The phase ends when both are done, without a gap: a group makes one
    conversion per ``max(compute, digitise)`` clocks. Comparator k belongs to array k and compares
    the held level of array `turn` with the reference on its own bit lines; the level at the
    digitiser's comparator j is compared by array ``turn + 1 + j``, modulo the group.

    Members
    -------
    vector : In(handshake)
        valid: an input vector waits; ready: the next array begins to compute it on the clock after.
        With none waiting, phases go on without computing as long as results are held.
    turn : Out(range(arrays))
        The array that computes, and whose held level is compared.
    compute : Out(arrays)
        One-hot: this array computes on this clock.
    hold : Out(arrays)
        One-hot: at the end of this clock the array's product-sum moves to its hold capacitor.
    lend : Out(arrays)
        Arrays whose comparator decides on this clock, against `reference`.
    reference : Out(unsigned(bits) × arrays)
        The fraction of its bit lines that each array charges, in units of 2^−bits.
    above : In(arrays)
        The comparators' answers: the held level is at least the reference.
    code : Out(stream of struct of array, code)
        Codes in the order of the vectors, and the arrays that computed them.
    """

    port_help = {
        "vector": "an input vector waits for the next array",
        "turn": "array that computes, and whose held level is compared",
        "compute": "array that computes on this clock, one-hot",
        "hold": "array whose product-sum is held from this clock's end on, one-hot",
        "lend": "arrays whose comparator decides on this clock",
        "reference": "code of the reference on each array's bit lines",
        "above": "comparator outputs: the held level is at least the reference",
        "code": "codes in the order of the vectors, and the arrays that computed them",
    }

    def __init__(self, spec: DigitizerNetSpec) -> None:
        index = range(spec.arrays)
        super().__init__(
            {
                "vector": In(wiring.Signature({"valid": Out(1), "ready": In(1)})),
                "turn": Out(index, init=spec.arrays - 1),  # the first vector goes to array 0
                "compute": Out(spec.arrays),
                "hold": Out(spec.arrays),
                "lend": Out(spec.arrays),
                "reference": Out(data.ArrayLayout(spec.bits, spec.arrays)),
                "above": In(spec.arrays),
                "code": Out(
                    stream.Signature(data.StructLayout({"array": index, "code": spec.bits}))
                ),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the controller."""
        m = Module()
        spec = self.spec
        m.submodules.digitizer = digitizer = Digitizer(spec)

        computing = Signal()
        left = Signal(range(spec.compute_cycles))  # clocks to compute after this one
        done = Signal()  # computed, waiting for the digitiser
        held = Signal(spec.arrays)  # arrays with a level that has not been digitised
        own = 1 << self.turn  # one-hot; spec.arrays is a power of two, so `turn` wraps by itself
        onwards = Signal.like(self.turn)
        swap = Signal()
        computed = Signal()
        m.d.comb += [
            onwards.eq(self.turn + 1),
            computed.eq(~computing | done | (left == 0)),
            swap.eq(
                computed & digitizer.sample.ready & (self.vector.valid | computing | held.any())
            ),
            self.vector.ready.eq(swap),
            self.compute.eq(Mux(computing & ~done, own, 0)),
            self.hold.eq(Mux(swap & computing, own, 0)),
            # What the next array computed a round ago is digitised while it computes again. In a
            # group of two and more, that is never what is being held on this very edge.
            digitizer.sample.valid.eq(swap & held.bit_select(onwards, 1)),
        ]
        with m.If(swap):
            m.d.sync += [
                self.turn.eq(onwards),
                computing.eq(self.vector.valid),
                left.eq(spec.compute_cycles - 1),
                done.eq(0),
                held.eq((held & ~(1 << onwards)) | self.hold),
            ]
        with m.Else():
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)
            m.d.sync += done.eq(computing & computed)
        self._wire(m, digitizer)
        return m

    def _wire(self, m: Module, digitizer: Digitizer) -> None:
        """Connect the digitiser's comparators to the arrays after `turn`."""
        spec = self.spec
        references = Array(digitizer.reference[j] for j in range(spec.comparators))
        for index in range(spec.arrays):
            place = Signal(range(spec.arrays), name=f"place{index}")
            m.d.comb += place.eq(index - self.turn - 1)
            with m.If(place != spec.comparators):  # that one is `turn` itself
                m.d.comb += [
                    self.reference[index].eq(references[place]),
                    self.lend[index].eq(digitizer.strobe.bit_select(place, 1)),
                ]
        for place in range(spec.comparators):
            array = Signal(range(spec.arrays), name=f"array{place}")
            m.d.comb += [
                array.eq(self.turn + 1 + place),
                digitizer.above[place].eq(self.above.bit_select(array, 1)),
            ]
        source = Signal.like(self.turn)  # of the code at the output
        with m.If(~self.code.valid | self.code.ready):
            m.d.sync += source.eq(self.turn)
        m.d.comb += [
            self.code.valid.eq(digitizer.code.valid),
            self.code.payload.array.eq(source),
            self.code.payload.code.eq(digitizer.code.payload),
            digitizer.code.ready.eq(self.code.ready),
        ]
