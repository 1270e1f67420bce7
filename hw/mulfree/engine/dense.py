"""Fully connected layers in hardware: the weight-stationary array with a requantizer behind it."""

from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from mulfree.catalog import KINDS
from mulfree.engine.array import Array, ArraySpec
from mulfree.engine.requantizer import RequantizerSpec
from mulfree.spec import Spec, SpecError, choice, flag, integer, nested
from mulfree.units.core import CoreSpec


@dataclass(frozen=True, kw_only=True)
class DenseSpec(Spec):
    """Fully connected layers: activations and weights in, requantized activations out."""

    unit: ClassVar[str] = "dense"

    core: CoreSpec = nested(KINDS, "what the products are made of")
    acc_bits: int = integer(32, 4, 32, "width of an accumulator, two's complement")
    acc_slots: int = integer(16, 1, 1024, "accumulators for each output, one a vector of a batch")
    channels: int = integer(64, 1, 4096, "output channels of the widest layer")
    out_bits: int = integer(8, 1, 16, "width of an output")
    out_signed: bool = flag(True, "outputs are two's complement")
    left_shift: int = integer(0, 0, 30, "largest left shift, for factors of 1 and more")
    rounding: str = choice(
        "single", ("single", "double"), "roundings on the way, as TFLite's builds"
    )
    scalers: int = integer(1, 1, 256, "accumulators requantized side by side; outputs share them")
    scaler_digits: int = integer(2, 1, 16, "two-bit digits that a scaler sums up in one clock")

    def check(self) -> None:
        """Check that scalers share outputs and tables evenly, then array and requantizer."""
        if self.core.outputs % self.scalers:
            raise SpecError(
                f"scalers must be a divisor of outputs ({self.core.outputs}), not {self.scalers}"
            )
        _ = self.array, self.requantizer

    @property
    def array(self) -> ArraySpec:
        """The array."""
        return ArraySpec(core=self.core, acc_bits=self.acc_bits, acc_slots=self.acc_slots)

    @property
    def requantizer(self) -> RequantizerSpec:
        """The requantizer; its tables hold whole groups of outputs."""
        return RequantizerSpec(
            lanes=self.scalers,
            channels=self.table_channels,
            acc_bits=self.acc_bits,
            out_bits=self.out_bits,
            out_signed=self.out_signed,
            left_shift=self.left_shift,
            rounding=self.rounding,
            digits=self.scaler_digits,
        )

    @property
    def table_channels(self) -> int:
        """Channels rounded up to whole groups of outputs."""
        return -(-self.channels // self.core.outputs) * self.core.outputs

    @property
    def pieces(self) -> int:
        """Beats of `out` that one result of the array becomes."""
        return self.core.outputs // self.scalers

    def component(self) -> "Dense":
        """Build it."""
        return Dense(self)


class Dense(wiring.Component):
    """Array, requantizer, and the count of which channels a result belongs to.

    A layer: load its parameters, then for each batch of at most `acc_slots` vectors and each group
    of `outputs` channels in turn send the tiles and beats. A batch fills the slots from 0 on and
    each group sends them in that order; so a result in slot 0 is the first of a group, and the
    group after the layer's last one is the first again. The next layer's parameters come after the
    last output.

    Members
    -------
    weight, act
        As of `Array`.
    parameter, zero_point, low, high
        As of `Requantizer`.
    out : Out(stream of spec.out_shape × scalers)
        Requantized outputs: each result of the array, `scalers` channels at a time. What the
        channels give that are missing in the last group means nothing.
    """

    port_help = {
        **Array.port_help,
        "parameter": "bias, multiplier and shift of each channel in turn; last ends the layer's",
        "out": "requantized outputs of a group, a few at a time, the first in the low bits",
        "zero_point": "added to every output; holds while a layer is under way",
        "low": "smallest output (ReLU: the zero point); holds while a layer is under way",
        "high": "largest output; holds while a layer is under way",
    }

    def __init__(self, spec: DenseSpec) -> None:
        scaler = spec.requantizer
        ports: dict[str, Any] = {
            "act": In(stream.Signature(spec.array.beat_layout)),
            "parameter": In(stream.Signature(scaler.parameter_layout)),
            "out": Out(stream.Signature(data.ArrayLayout(scaler.out_shape, scaler.lanes))),
            "zero_point": In(scaler.out_shape),
            "low": In(scaler.out_shape),
            "high": In(scaler.out_shape),
        }
        if spec.core.loadable:
            ports["weight"] = In(stream.Signature(spec.core.load_shape))
        super().__init__(ports)
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Connect array and requantizer, cut results into pieces, count channels."""
        m = Module()
        spec = self.spec
        m.submodules.array = array = spec.array.component()
        m.submodules.requantizer = requantizer = spec.requantizer.component()
        connect(m, flipped(self.act), array.act)
        if spec.core.loadable:
            connect(m, flipped(self.weight), array.weight)
        connect(m, flipped(self.parameter), requantizer.parameter)
        connect(m, requantizer.out, flipped(self.out))
        m.d.comb += [
            requantizer.zero_point.eq(self.zero_point),
            requantizer.low.eq(self.low),
            requantizer.high.eq(self.high),
        ]

        result, acc = array.result, requantizer.acc
        piece = Signal(range(spec.pieces))
        end = Signal()
        taken = Signal()
        pieces = data.ArrayLayout(acc.payload.acc.shape(), spec.pieces)
        m.d.comb += [
            end.eq(piece == spec.pieces - 1),
            acc.valid.eq(result.valid),
            acc.payload.acc.eq(data.View(pieces, result.payload.acc.as_value())[piece]),
            result.ready.eq(acc.ready & end),
            taken.eq(acc.valid & acc.ready),
        ]
        with m.If(taken):
            m.d.sync += piece.eq(Mux(end, 0, piece + 1))

        # The first channel of a group and the row of the tables where it stands advance together.
        place = data.StructLayout(
            {"channel": range(spec.table_channels + 1), "row": range(spec.requantizer.groups + 1)}
        )
        present, following, here = Signal(place), Signal(place), Signal(place)
        loaded = Signal(range(spec.table_channels + 1))
        channels = Signal.like(loaded)
        given = self.parameter
        with m.If(given.valid & given.ready):
            m.d.sync += loaded.eq(Mux(given.payload.last, 0, loaded + 1))
            with m.If(given.payload.last):
                m.d.sync += [channels.eq(loaded + 1), following.eq(0)]
        first = result.payload.slot == 0
        m.d.comb += [
            here.eq(Mux(first, following, present)),
            acc.payload.group.eq(here.row + piece),
        ]
        with m.If(taken & end):
            m.d.sync += present.eq(here)
            following_channel = here.channel + spec.core.outputs
            with m.If(following_channel >= channels):
                m.d.sync += following.eq(0)
            with m.Else():
                m.d.sync += [
                    following.channel.eq(following_channel),
                    following.row.eq(here.row + spec.pieces),
                ]
        return m
