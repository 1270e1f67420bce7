"""A weight-stationary array: a core of any kind, accumulators behind it, streams around it."""

from dataclasses import dataclass, replace
from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mulfree.catalog import KINDS
from mulfree.spec import Spec, SpecError, integer, nested
from mulfree.units.core import CoreSpec


@dataclass(frozen=True, kw_only=True)
class ArraySpec(Spec):
    """A weight-stationary array of outputs × lanes products, accumulated, between streams."""

    unit: ClassVar[str] = "array"

    core: CoreSpec = nested(KINDS, "what the products are made of")
    acc_bits: int = integer(32, 4, 64, "width of an accumulator, two's complement")
    acc_slots: int = integer(1, 1, 1024, "accumulators for each output, one a vector of a batch")

    def check(self) -> None:
        """Check that an accumulator holds one dot product at the least."""
        if self.acc_bits < self.core.dot_bits:
            raise SpecError(
                f"acc_bits must be at least the dot product's {self.core.dot_bits}, "
                f"not {self.acc_bits}"
            )

    @property
    def safe_beats(self) -> int:
        """Beats whose sum never overflows; that of more may wrap around modulo 2^acc_bits."""
        largest = max(
            abs(a * w)
            for a in (self.core.act_format.low, self.core.act_format.high)
            for w in self.core.weight_range
        )
        return ((1 << (self.acc_bits - 1)) - 1) // (largest * self.core.lanes)

    @property
    def slot_bits(self) -> int:
        """Width of an accumulator's index."""
        return ceil_log2(self.acc_slots)

    @property
    def beat_layout(self) -> data.StructLayout:
        """What one beat of the `act` stream holds, the activations in the low bits."""
        return data.StructLayout(
            {
                "act": data.ArrayLayout(self.core.act_shape, self.core.lanes),
                "last": 1,
                "retire": 1,
                "slot": self.slot_bits,
            }
        )

    @property
    def result_layout(self) -> data.StructLayout:
        """What one beat of the `result` stream holds, the accumulators in the low bits."""
        return data.StructLayout(
            {
                "acc": data.ArrayLayout(signed(self.acc_bits), self.core.outputs),
                "slot": self.slot_bits,
            }
        )

    def variants(self, fixed: frozenset[str] = frozenset()) -> list[Spec]:
        """Return an array for every structure of the core."""
        return [replace(self, core=core) for core in self.core.variants(fixed)]

    def component(self) -> "Array":
        """Build the array."""
        return Array(self)


class Array(wiring.Component):
    """Accumulates ``acc[slot][o] += Σ_l weight[o, l] · act[l]`` over beats, one beat a clock.

    Every accumulator is zero after reset, which takes `acc_slots` clocks where there are several,
    and after its `last` beat. The n-th tile on `weight`
    serves the n-th run of beats, where a run ends with a beat that has `retire` set; constant
    weights need no retire.

    Members
    -------
    weight : In(stream of weights), loadable weights only
        Tiles of outputs × lanes weights, as `Core.weight`: the outputs of lane 0 first.
    act : In(stream of spec.beat_layout)
        `act`: the activations; `slot`: the accumulator; `last`: send that accumulator on and clear
        it; `retire`: the last beat of the present tile.
    result : Out(stream of spec.result_layout)
        `acc`: the sums of every output; `slot`: whose.
    """

    port_help = {
        "weight": "tiles of weights, the outputs of lane 0 first, one or whole lanes a beat",
        "act": "activations; last: send the accumulator and clear it; retire: last use of the "
        "tile; slot: which accumulator",
        "result": "sums of every output, and the slot they were gathered in",
    }

    def __init__(self, spec: ArraySpec) -> None:
        ports = {
            "act": In(stream.Signature(spec.beat_layout)),
            "result": Out(stream.Signature(spec.result_layout)),
        }
        if spec.core.loadable:
            ports["weight"] = In(stream.Signature(spec.core.load_shape))
        super().__init__(ports)
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the core, the control that travels beside it, and the accumulators."""
        m = Module()
        spec = self.spec
        m.submodules.core = core = spec.core.component()
        beat = self.act.payload

        # The whole pipeline stands still while a result is refused.
        en = Signal()
        accept = Signal()
        cleared = Signal(init=spec.acc_slots == 1)  # registers are cleared by reset itself
        m.d.comb += [
            en.eq(~self.result.valid | self.result.ready),
            core.en.eq(en),
            core.act.eq(beat.act),
            accept.eq(self.act.valid & self.act.ready),
        ]
        if spec.core.loadable:
            m.d.comb += [
                core.weight.payload.eq(self.weight.payload),
                core.weight.valid.eq(self.weight.valid),
                self.weight.ready.eq(core.weight.ready),
                self.act.ready.eq(en & cleared & core.loaded),
                core.retire.eq(accept & beat.retire),
            ]
        else:
            m.d.comb += self.act.ready.eq(en & cleared)

        travelling = data.StructLayout({"valid": 1, "last": 1, "slot": spec.slot_bits})
        stage = Signal(travelling)
        m.d.comb += [
            stage.valid.eq(accept),
            stage.last.eq(beat.last),
            stage.slot.eq(beat.slot),
        ]
        for rank in range(spec.core.latency):
            following = Signal(travelling, name=f"stage_{rank + 1}")
            with m.If(en):
                m.d.sync += following.eq(stage)
            stage = following

        self._accumulate(m, en, stage, core.result, cleared)
        return m

    def _accumulate(
        self, m: Module, en: Signal, stage: data.View, dot: data.View, cleared: Signal
    ) -> None:
        """Add the dot products to the slot's accumulators; at `last`, send and clear them."""
        spec = self.spec
        step = en & stage.valid
        held = (
            self._held_in_registers(m, step, stage)
            if spec.acc_slots == 1
            else self._held_in_memory(m, step, stage, cleared)
        )
        sums = Signal(data.ArrayLayout(signed(spec.acc_bits), spec.core.outputs))
        for o in range(spec.core.outputs):
            m.d.comb += sums[o].eq(held.read[o] + dot[o])
        m.d.comb += held.write.eq(sums)
        with m.If(en):
            m.d.sync += [
                self.result.valid.eq(stage.valid & stage.last),
                self.result.payload.acc.eq(sums),
                self.result.payload.slot.eq(stage.slot),
            ]

    def _held_in_registers(self, m: Module, step: Signal, stage: data.View) -> "_Held":
        # In this order of conditions the registers' synchronous reset clears, which costs no logic;
        # a gate before every bit of the adder would.
        held = _Held(self.spec)
        with m.If(step & stage.last):
            m.d.sync += held.read.eq(0)
        with m.Elif(step):
            m.d.sync += held.read.eq(held.write)
        return held

    def _held_in_memory(
        self, m: Module, step: Signal, stage: data.View, cleared: Signal
    ) -> "_Held":
        # Reset leaves a memory as it is, so the first clocks behind it write zero everywhere.
        held = _Held(self.spec)
        sweep = Signal(range(self.spec.acc_slots))
        with m.If(~cleared):
            m.d.sync += [sweep.eq(sweep + 1), cleared.eq(sweep == self.spec.acc_slots - 1)]
        word = held.read.as_value().shape()
        m.submodules.acc = acc = Memory(shape=word, depth=self.spec.acc_slots, init=[])
        read = acc.read_port(domain="comb")
        write = acc.write_port()
        m.d.comb += [
            read.addr.eq(stage.slot),
            held.read.eq(read.data),
            write.addr.eq(Mux(cleared, stage.slot, sweep)),
            write.data.eq(Mux(cleared & ~stage.last, held.write.as_value(), 0)),
            write.en.eq(step | ~cleared),
        ]
        return held


class _Held:
    """The accumulators of one slot: what they hold and what they are to hold next."""

    def __init__(self, spec: ArraySpec) -> None:
        layout = data.ArrayLayout(signed(spec.acc_bits), spec.core.outputs)
        self.read = Signal(layout, name="acc_held")
        self.write = Signal(layout, name="acc_next")
