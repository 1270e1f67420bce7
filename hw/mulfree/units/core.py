"""The contract that every matrix-vector core keeps, whatever its products are made of.

A core computes ``result[o] = Σ_l weight[o, l] · act[l]`` for `outputs` × `lanes` weights that stay
put while activations pass: one vector per enabled clock edge, `latency` edges from `act` to
`result`. One lane and one output make a multiplier; several lanes a dot product.
"""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree.formats import Int
from mulfree.spec import Spec, SpecError, choice, flag, integer, matrix


@dataclass(frozen=True, kw_only=True)
class CoreSpec(Spec):
    """Parameters that every matrix-vector core has."""

    outputs: int = integer(1, 1, 256, "dot products computed side by side")
    lanes: int = integer(1, 1, 256, "activations taken per clock")
    act_bits: int = integer(8, 1, 16, "width of an activation")
    act_signed: bool = flag(True, "activations are two's complement")
    weight_bits: int = integer(8, 2, 16, "width of a weight, two's complement")
    weights: str = choice("loadable", ("loadable", "constant"), "when the weights are known")
    matrix: tuple | None = matrix("the constant weights: a row of lanes for each output")
    double_buffer: bool = flag(False, "load the next weights while the present ones compute")
    fill_lanes: int = integer(
        0, 1, 256, "lanes whose weights come in one beat; 0 for one weight a beat", unset=0
    )

    def check(self) -> None:
        """Check that constant weights are given, fit, and are not asked to be loaded."""
        if self.fill_lanes and self.lanes % self.fill_lanes:
            raise SpecError(f"fill_lanes must divide lanes ({self.lanes}), not {self.fill_lanes}")
        if self.weights == "constant":
            if self.matrix is None:
                raise SpecError("matrix must be given when weights is constant, not None")
            shape = len(self.matrix), len(self.matrix[0])
            if shape != (self.outputs, self.lanes):
                expected = f"{self.outputs} rows of {self.lanes}"
                raise SpecError(f"matrix must have {expected}, not {shape[0]} rows of {shape[1]}")
            try:
                self.weight_format.check(self.matrix, "matrix entries")
            except ValueError as error:
                raise SpecError(str(error)) from None
            if self.double_buffer:
                raise SpecError("double_buffer must be false when weights is constant, not True")
            if self.fill_lanes:
                raise SpecError(
                    f"fill_lanes must be 0 when weights is constant, not {self.fill_lanes}"
                )
        elif self.matrix is not None:
            raise SpecError("matrix must be left out when weights is loadable, not given")

    @property
    def act_format(self) -> Int:
        """How an activation is coded."""
        return Int(self.act_bits, self.act_signed)

    @property
    def weight_format(self) -> Any:
        """How a weight is coded on the load stream and in `matrix`."""
        return Int(self.weight_bits)

    @property
    def weight_range(self) -> tuple[int, int]:
        """Smallest and largest value that a weight stands for."""
        return self.weight_format.low, self.weight_format.high

    @property
    def product_bits(self) -> int:
        """Width of one exact signed product."""
        return _signed_bits(self._corners(1))

    @property
    def dot_bits(self) -> int:
        """Width of one exact signed dot product; nothing the lanes can hold overflows it."""
        return _signed_bits(self._corners(self.lanes))

    def _corners(self, taps: int) -> list[int]:
        act = self.act_format
        return [taps * a * w for a in (act.low, act.high) for w in self.weight_range]

    @property
    def act_shape(self) -> Shape:
        """Amaranth shape of one activation."""
        return signed(self.act_bits) if self.act_signed else unsigned(self.act_bits)

    @property
    def weight_shape(self) -> Shape:
        """Amaranth shape of one weight on the load stream."""
        return signed(self.weight_bits)

    @property
    def loadable(self) -> bool:
        """Whether the weights arrive at run time."""
        return self.weights == "loadable"

    @property
    def load_weights(self) -> int:
        """Weights in one beat of the load stream: one, or those of `fill_lanes` whole lanes."""
        return self.fill_lanes * self.outputs or 1

    @property
    def load_shape(self) -> Any:
        """Payload of the load stream: one weight, or an array with the first in the low bits."""
        if not self.fill_lanes:
            return self.weight_shape
        return data.ArrayLayout(self.weight_shape, self.load_weights)

    @property
    def load_beats(self) -> int:
        """Beats that make a tile."""
        return self.outputs * self.lanes // self.load_weights

    @property
    def load_clocks(self) -> int:
        """Clock edges from the one that takes a tile's first beat to the first that may use it.

        That one may have `act` of the new tile. Exact where every beat is offered as soon as it may
        be taken, no tile is in use, and `en` is high; with constant weights 0.
        """
        return self.load_beats + self.double_buffer if self.loadable else 0

    @property
    def swap_clocks(self) -> int:
        """Clock edges from the one with `retire` to the first that may use the next tile.

        Exact where the next tile's beats are offered as soon as they may be taken (long enough
        before, where they are taken before), and `en` is high; with constant weights 0. So a change
        of tiles costs ``swap_clocks - 1`` clocks without activations.
        """
        if not self.loadable:
            return 0
        return self.hold + 1 + (0 if self.double_buffer else self.load_clocks)

    @property
    def hold(self) -> int:
        """Enabled edges after the last activations' own on which the weights are still read."""
        return 0


def _signed_bits(values: list[int]) -> int:
    """Width of the narrowest two's complement integer that holds every value."""
    return max((v if v >= 0 else ~v).bit_length() + 1 for v in values)


class Core(wiring.Component):
    """Base of every matrix-vector core: the ports, from the Spec alone.

    Members
    -------
    en : In(1)
        The pipeline advances on this clock edge. Loading does not need it.
    act : In(spec.act_shape × lanes)
        Activations, lane 0 in the low bits.
    result : Out(signed(spec.dot_bits) × outputs)
        Dot products, output 0 in the low bits, `spec.latency` enabled edges after their
        activations.
    weight : In(stream of spec.load_shape), loadable cores only
        A tile of ``outputs × lanes`` weights in `spec.load_beats` beats, the outputs of lane 0
        first. Without `fill_lanes` a beat is one weight. With it a beat is all weights of
        `fill_lanes` lanes: the same sequence, so many at a time, the first in the low bits.
        Weights are not taken while there is nowhere to put them. Where a core makes tables of them
        it takes a whole tile of wide beats ahead, while the former tile is in use.
    loaded : Out(1), loadable cores only
        A whole tile is in use; `act` may be given.
    retire : In(1), loadable cores only
        This edge takes the last activations that use the present tile. Acts without `en`.
    """

    port_help = {
        "en": "the pipeline advances on this clock edge",
        "act": "activations, lane 0 in the low bits",
        "result": "dot products, output 0 in the low bits",
        "weight": "tile of weights, the outputs of lane 0 first, one or whole lanes a beat",
        "loaded": "a whole tile is in use",
        "retire": "this edge takes the last activations of the present tile",
    }

    def __init__(self, spec: CoreSpec) -> None:
        ports: dict[str, Any] = {
            "en": In(1),
            "act": In(data.ArrayLayout(spec.act_shape, spec.lanes)),
            "result": Out(data.ArrayLayout(signed(spec.dot_bits), spec.outputs)),
        }
        if spec.loadable:
            ports |= {
                "weight": In(stream.Signature(spec.load_shape)),
                "loaded": Out(1),
                "retire": In(1),
            }
        super().__init__(ports)
        self.spec = spec


def own(m: Module, value: Any, name: str, init: Any = 0) -> Any:
    """Return the value one edge later, in a register that is not merged with its equals.

    One of them in each place that a control signal reaches keeps its wires short. Reset makes it
    `init`.
    """
    held = Signal(value.shape(), name=name, init=init, attrs={"keep": 1})
    m.d.sync += held.eq(value)
    return held


class TileHandshake(wiring.Component):
    """Decides when a tile may be written, when it takes effect and when it is given back.

    With one buffer, writing waits for `retire`. With two, a tile is written while another is in use
    and the two are swapped on `retire`, or when none is in use; never on the edge of the last write
    itself.

    Members
    -------
    filled : In(1)
        This edge writes the last word of a tile. Only while `writable`.
    retire : In(1)
        This edge takes the last activations of the present tile.
    writable : Out(1)
        The buffer that is written may be changed.
    loaded : Out(1)
        A tile is in use.
    swap : Out(1)
        This edge makes the written tile the one in use.
    bank : Out(1), double buffer only
        The buffer in use; the other one is written.
    """

    filled: In(1)
    retire: In(1)
    writable: Out(1)
    loaded: Out(1)
    swap: Out(1)
    bank: Out(1)

    def __init__(self, double_buffer: bool) -> None:
        self._double_buffer = double_buffer
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        """Build the state machine."""
        m = Module()
        if self._double_buffer:
            waiting = Signal()  # a written tile that has not taken effect
            m.d.comb += [
                self.writable.eq(~waiting),
                self.swap.eq(waiting & (~self.loaded | self.retire)),
            ]
            m.d.sync += [
                waiting.eq(self.filled | (waiting & ~self.swap)),
                self.bank.eq(self.bank ^ self.swap),
            ]
        else:
            m.d.comb += [self.writable.eq(~self.loaded), self.swap.eq(self.filled)]
        m.d.sync += self.loaded.eq(self.swap | (self.loaded & ~self.retire))
        return m


class WeightRegisters(wiring.Component):
    """A tile of weights in flip-flops, filled through a shift chain, `together` words a beat.

    Members
    -------
    weight : In(stream of unsigned(together × width of shape))
        Tile words in the order of `Core.weight`.
    retire, loaded
        As in `Core`.
    tile : Out(shape × outputs·lanes)
        The tile in use; word ``lane · outputs + output``.
    """

    def __init__(self, shape: Any, words: int, double_buffer: bool, together: int = 1) -> None:
        self._beats = words // together
        self._double_buffer = double_buffer
        super().__init__(
            {
                "weight": In(stream.Signature(unsigned(Shape.cast(shape).width * together))),
                "retire": In(1),
                "loaded": Out(1),
                "tile": Out(data.ArrayLayout(shape, words)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the shift chain, the beat counter and, with two buffers, the copy in use."""
        m = Module()
        m.submodules.handshake = handshake = TileHandshake(self._double_buffer)
        # `loaded` says when the tile means something: its bits need no reset.
        chain = Signal.like(self.tile.as_value(), reset_less=True)
        width = len(self.weight.payload)
        count = Signal(range(self._beats))
        last = count == self._beats - 1
        accept = self.weight.valid & self.weight.ready
        m.d.comb += [
            self.weight.ready.eq(handshake.writable),
            handshake.filled.eq(accept & last),
            handshake.retire.eq(self.retire),
            self.loaded.eq(handshake.loaded),
        ]
        with m.If(accept):
            m.d.sync += [
                count.eq(Mux(last, 0, count + 1)),
                chain.eq(Cat(chain, self.weight.payload)[width:]),
            ]
        if self._double_buffer:
            in_use = Signal.like(chain, reset_less=True)
            with m.If(handshake.swap):
                m.d.sync += in_use.eq(chain)
            m.d.comb += self.tile.eq(in_use)
        else:
            m.d.comb += self.tile.eq(chain)
        return m
