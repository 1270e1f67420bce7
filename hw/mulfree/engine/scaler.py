"""Lanes of the requantizer as plain pipelines, a result a clock, no streams: one for accumulators,
one for sums of two terms.
"""

from dataclasses import dataclass

from amaranth.hdl import Module, Shape, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mulfree.engine.requantizer import RequantizerSpec, _Lane


@dataclass(frozen=True, kw_only=True)
class ScalerSpec:
    """Parameters of a scaler; what they mean is `RequantizerSpec`'s to say."""

    acc_bits: int
    out_bits: int
    out_signed: bool
    left_shift: int
    rounding: str

    @property
    def requantizer(self) -> RequantizerSpec:
        """The requantizer whose lane it is."""
        return RequantizerSpec(
            acc_bits=self.acc_bits,
            out_bits=self.out_bits,
            out_signed=self.out_signed,
            left_shift=self.left_shift,
            rounding=self.rounding,
            style="pipelined",
        )

    @property
    def latency(self) -> int:
        """Clock edges from an accumulator to its output."""
        spec = self.requantizer
        return 2 + (spec.left_shift > 0) + (spec.digit_bits > 1) + spec.steps + 4

    @property
    def parameters(self) -> dict[str, Shape]:
        """What comes with an accumulator: bias, multiplier, and bits shifted either way."""
        spec = self.requantizer
        shapes = {
            "bias": signed(self.acc_bits),
            "multiplier": unsigned(spec.multiplier_bits),
            "right": Shape.cast(range(spec.right_shift + 1)),
        }
        if self.left_shift:
            shapes["left"] = Shape.cast(range(self.left_shift + 1))
        return shapes


class Scaler(wiring.Component):
    """Adds a bias, scales, rounds, adds the zero point, clamps: one accumulator a clock.

    Members
    -------
    acc, row : In
        The accumulator and its channel's parameters, on the same edge.
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
                "acc": In(signed(spec.acc_bits)),
                "row": In(data.StructLayout(spec.parameters)),
                "zero_point": In(out),
                "low": In(out),
                "high": In(out),
                "out": Out(out.width),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the lane between an input rank of the parameters and an output rank."""
        m = Module()
        row = Signal.like(self.row, name="row_q", reset_less=True)
        m.d.sync += row.eq(self.row)
        lane = _Lane(self.spec.requantizer, self, row)
        m.d.sync += self.out.eq(lane.pipeline(m, self.acc))
        return m


@dataclass(frozen=True, kw_only=True)
class AdderSpec:
    """Parameters of an adder of terms; `sum_bits` is the width of the sum before the multiplier."""

    sum_bits: int
    out_bits: int
    out_signed: bool
    rounding: str

    #: Clock edges from the terms to their output.
    LATENCY = 6

    @property
    def requantizer(self) -> RequantizerSpec:
        """The requantizer whose last steps it takes."""
        return RequantizerSpec(
            acc_bits=self.sum_bits,
            out_bits=self.out_bits,
            out_signed=self.out_signed,
            rounding=self.rounding,
            digit_bits=1,
        )

    @property
    def term_bits(self) -> int:
        """Width of a term, which has the multiplier in it."""
        return self.sum_bits - 1 + self.requantizer.multiplier_bits

    @property
    def right(self) -> Shape:
        """Shape of the bits shifted to the right."""
        return Shape.cast(range(self.requantizer.right_shift + 1))


class Adder(wiring.Component):
    """Adds two terms that are multiples of the multiplier already, scales, rounds, clamps.

    ``(a + b) · multiplier`` is ``a · multiplier + b · multiplier``: with both products in tables
    the sum needs no multiplication, and is rounded as the requantizer rounds its product.

    Members
    -------
    own, kept : In
        The terms, on the same edge.
    right, zero_point, low, high : In
        Bits shifted after the multiplier's own, what is added, the range; held.
    out : Out(width of an activation)
        Its bits, `AdderSpec.LATENCY` edges later.
    """

    def __init__(self, spec: AdderSpec) -> None:
        out = spec.requantizer.out_shape
        term = signed(spec.term_bits)
        super().__init__(
            {
                "own": In(term),
                "kept": In(term),
                "right": In(spec.right),
                "zero_point": In(out),
                "low": In(out),
                "high": In(out),
                "out": Out(out.width),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the sum in two halves, the lower one first, then a lane's last steps."""
        m = Module()
        spec = self.spec
        places = spec.requantizer.multiplier_bits
        lane = _Lane(spec.requantizer, self, None)
        own, kept = self.own, self.kept
        # Of the lower half only the carry counts, and what rounds the product is in it.
        low = Signal(places + 2, reset_less=True)
        high = Signal(signed(spec.sum_bits), reset_less=True)
        total = Signal(lane.partial_shape, reset_less=True)
        m.d.sync += [
            low.eq(own[:places] + kept[:places] + lane.seed(self.right)),
            high.eq(own[places:].as_signed() + kept[places:].as_signed()),
            total.eq(high + low[places:]),
            self.out.eq(lane.rounded(m, total, self.right)),
        ]
        return m
