"""A lane of the requantizer as a plain pipeline, an accumulator a clock, no streams."""

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
