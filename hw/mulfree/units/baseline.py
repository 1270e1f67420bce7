"""What the multiplier-free cores are compared with: multipliers, behind the same ports."""

from dataclasses import dataclass
from typing import ClassVar

from amaranth.hdl import Module, Signal

from mulfree.spec import choice
from mulfree.units.core import Core, CoreSpec, WeightRegisters

FORMS = ("star",)


@dataclass(frozen=True, kw_only=True)
class BaselineSpec(CoreSpec):
    """A matrix-vector core of conventional multipliers."""

    unit: ClassVar[str] = "baseline"

    form: str = choice("star", FORMS, "how a product is made; star leaves it to the synthesis tool")

    @property
    def latency(self) -> int:
        """One register behind the adder tree."""
        return 1

    def component(self) -> "Baseline":
        """Build the core."""
        return Baseline(self)


class Baseline(Core):
    """Multipliers and an adder tree, then a register."""

    def elaborate(self, platform: object) -> Module:
        """Build it."""
        m = Module()
        spec = self.spec
        words = spec.outputs * spec.lanes
        m.submodules.weights = weights = WeightRegisters(
            spec.weight_shape, words, spec.double_buffer)
        m.d.comb += [
            weights.weight.payload.eq(self.weight.payload),
            weights.weight.valid.eq(self.weight.valid),
            self.weight.ready.eq(weights.weight.ready),
            weights.retire.eq(self.retire), self.loaded.eq(weights.loaded)]
        with m.If(self.en):
            for o in range(spec.outputs):
                dot = sum(self.act[i] * weights.tile[i * spec.outputs + o]
                          for i in range(spec.lanes))
                m.d.sync += self.result[o].eq(dot)
        return m
