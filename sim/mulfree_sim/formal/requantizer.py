"""What is proved of the requantizer: TFLite's formula in plain arithmetic, and the stream rules."""

import dataclasses

from amaranth.hdl import Assert, Assume, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from mulfree.engine.requantizer import RequantizerSpec
from mulfree_sim.formal import Proof, of_component
from mulfree_sim.formal.streams import stream_rules


def proofs(spec: RequantizerSpec) -> list[Proof]:
    """Return the proofs of one Spec, which stand on a narrow requantizer of the same form."""
    small = reduced(spec)
    check = FormulaProof(small)
    claim = (
        f"outputs follow the formula for every parameter and accumulator of "
        f"{small.acc_bits} × {small.multiplier_bits} bits"
    )
    return [
        of_component("formula", claim, check, "bmc", check.depth),
        *stream_rules(small.component(), depth=3),
    ]


def reduced(spec: RequantizerSpec) -> RequantizerSpec:
    """Return a Spec of the same form with few bits: one lane, one channel."""
    multiplier_bits = min(spec.multiplier_bits, 4)
    return dataclasses.replace(
        spec,
        lanes=1,
        channels=1,
        acc_bits=min(spec.acc_bits, 6),
        out_bits=min(spec.out_bits, 3),
        multiplier_bits=multiplier_bits,
        digits=min(spec.digits, -(-multiplier_bits // spec.digit_bits)),
        left_shift=min(spec.left_shift, 1),
        right_shift=min(spec.right_shift, 3),
    )


class FormulaProof(wiring.Component):
    """The requantizer beside the formula: one parameter set, one accumulator, both of any value."""

    def __init__(self, spec: RequantizerSpec) -> None:
        self.spec = spec
        super().__init__(
            {
                "acc": In(spec.acc_shape),
                "parameter": In(spec.parameter_layout),
                "zero_point": In(spec.out_shape),
                "low": In(spec.out_shape),
                "high": In(spec.out_shape),
                "ready": In(1),
            }
        )

    @property
    def depth(self) -> int:
        """Clocks until an output is seen, and stays for one more."""
        return self.spec.steps + 10

    def elaborate(self, platform: object) -> Module:
        """Hold what the first clock brings, and compare every output with its formula."""
        m = Module()
        m.submodules.dut = dut = self.spec.component()
        first = Signal(init=1)
        held = {}
        for name in ("acc", "parameter", "zero_point", "low", "high"):
            port = getattr(self, name)
            held[name] = Signal(port.shape(), name=f"held_{name}")
            with m.If(first):
                m.d.sync += held[name].eq(port)
        m.d.sync += first.eq(0)
        m.d.comb += [
            dut.parameter.payload.eq(self.parameter),
            dut.parameter.valid.eq(first),
            dut.acc.payload.acc[0].eq(held["acc"]),
            dut.acc.valid.eq(~first),
            dut.zero_point.eq(held["zero_point"]),
            dut.low.eq(held["low"]),
            dut.high.eq(held["high"]),
            dut.out.ready.eq(self.ready),
        ]
        given = held["parameter"]
        top = given.multiplier[-1]
        with m.If(~first):
            m.d.comb += [
                Assume(given.last),
                Assume(top | (given.multiplier == 0)),
                Assume(given.shift >= -self.spec.right_shift),
                Assume(given.shift <= self.spec.left_shift),
            ]
        scaled = self.scaled((held["acc"] + given.bias)[: self.spec.acc_bits].as_signed(), given)
        value = scaled + held["zero_point"]
        clamped = Mux(value > held["high"], held["high"], value)
        with m.If(dut.out.valid & (held["low"] <= held["high"])):
            below = value < held["low"]
            m.d.comb += Assert(dut.out.payload[0] == Mux(below, held["low"], clamped))
        return m

    def scaled(self, total: Value, given: Value) -> Value:
        """Return the scaled sum, rounded, as the golden model has it."""
        bits = self.spec.multiplier_bits
        right = Mux(given.shift < 0, -given.shift, 0)[: self.spec.right_shift.bit_length()]
        left = given.shift > 0  # the only left shift here is by one
        one = Const(1, 1)
        if self.spec.rounding == "single":
            drop = (right + bits - left)[: (self.spec.right_shift + bits).bit_length()]
            return (total * given.multiplier + ((one << drop) >> 1)) >> drop
        wide = Mux(left, total << 1, total)
        high = (wide * given.multiplier + (1 << (bits - 1))) >> bits
        half = (one << right) >> 1
        return Mux(high < 0, -((half - high) >> right), (high + half) >> right)
