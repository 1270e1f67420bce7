"""Frequency layer: what replaces a 1×1 convolution between two Walsh-Hadamard transforms.

``y = H · S_T(g ∘ (H · x)) / N + x``: pad the channels of a pixel, transform, scale each coefficient
by a gain of its own, soft-threshold it, transform back, crop, and add the input where a residual is
asked for (arXiv 2104.07085; gains: ICML 2023). Additions and shifts only.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.hdl import Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree.arith.rounding import saturate
from mulfree.formats import Int, PowerOfTwo
from mulfree.spec import Spec, SpecError, choice, flag, integer, matrix
from mulfree.units.wht import WHTSpec

GAINS = ("none", "pot", "integer")


@dataclass(frozen=True, kw_only=True)
class FreqLayerSpec(Spec):
    """A layer of transform, gain, soft threshold and transform, on streams."""

    unit: ClassVar[str] = "freqlayer"

    channels: int = integer(16, 1, 4096, "samples of a vector: the channels of a pixel")
    points: int = integer(
        0, 2, 4096, "points of the transforms; 0: one block that holds all channels", unset=0
    )
    bits: int = integer(8, 1, 16, "width of a sample")
    signed: bool = flag(True, "samples are two's complement")
    samples_per_cycle: int = integer(1, 1, 256, "samples side by side, a power of two")
    gain: str = choice("none", GAINS, "what a coefficient can be scaled by")
    gain_bits: int = integer(4, 2, 8, "width of a gain: two's complement, or a power-of-two code")
    gain_shift: int = integer(0, 0, 16, "fraction bits of the gains")
    threshold_dc: bool = flag(True, "threshold the first coefficient of a block as well")
    residual: bool = flag(False, "add the samples to the results")
    out_bits: int = integer(
        0, 1, 32, "width of a result, saturated to it; 0: as wide as a signed sample", unset=0
    )
    parameters: str = choice(
        "loadable", ("loadable", "constant"), "when thresholds and gains are known"
    )
    thresholds: tuple | None = matrix("the constant thresholds: one row, one a coefficient")
    gains: tuple | None = matrix("the constant gains: one row, one a coefficient")

    def check(self) -> None:
        """Check that the transforms exist and that constants are given, and fit."""
        if self.gain == "none" and self.gain_shift:
            raise SpecError(f"gain_shift must be 0 without gains, not {self.gain_shift}")
        if self.product_bits > 32:
            raise SpecError(f"scaled coefficients must be at most 32 bits, not {self.product_bits}")
        if self.out_bits > self.total_bits:
            raise SpecError(
                f"out_bits must be at most {self.total_bits}, the width of any result, "
                f"not {self.out_bits}"
            )
        assert self.inverse.form == self.forward.form  # both Specs check themselves when made
        wanted = {
            "thresholds": self.parameters == "constant",
            "gains": self.parameters == "constant" and self.gain != "none",
        }
        for name, needed in wanted.items():
            given = getattr(self, name)
            if (given is not None) != needed:
                rule = "given" if needed else "left out"
                kind = f"parameters {self.parameters} and gain {self.gain}"
                raise SpecError(f"{name} must be {rule} with {kind}, not {given}")
            if given is not None and (len(given), len(given[0])) != (1, self.coefficients):
                shape = f"{len(given)} rows of {len(given[0])}"
                raise SpecError(f"{name} must have 1 row of {self.coefficients}, not {shape}")
        if self.thresholds is not None:
            try:
                self.threshold_format.check(self.thresholds, "thresholds")
            except ValueError as error:
                raise SpecError(str(error)) from None
        for value in self.gains[0] if self.gains is not None else ():
            self.gain_code(value)

    @property
    def block(self) -> int:
        """Points of one transform."""
        return self.points or max(2, 1 << (self.channels - 1).bit_length())

    @property
    def forward(self) -> WHTSpec:
        """The first transform, exact."""
        return WHTSpec(
            points=self.block,
            length=self.channels,
            bits=self.bits,
            signed=self.signed,
            form="streaming",
            samples_per_cycle=self.samples_per_cycle,
        )

    @property
    def inverse(self) -> WHTSpec:
        """The second transform, which divides by the points and drops the gains' fraction."""
        return WHTSpec(
            points=self.block,
            length=self.channels,
            bits=self.product_bits,
            form="streaming",
            samples_per_cycle=self.samples_per_cycle,
            direction="inverse",
            shift=self.forward.levels + self.gain_shift,
        )

    @property
    def coefficients(self) -> int:
        """Coefficients of a vector, over all blocks."""
        return -(-self.channels // self.block) * self.block

    @property
    def beats(self) -> int:
        """Beats of coefficients of a vector."""
        return self.coefficients // self.samples_per_cycle

    @property
    def sample_format(self) -> Int:
        """How a sample is coded."""
        return Int(self.bits, self.signed)

    @property
    def coefficient_bits(self) -> int:
        """Width of a coefficient."""
        return self.bits + (not self.signed) + self.block.bit_length() - 1

    @property
    def largest_shift(self) -> int:
        """Exponent of the largest power-of-two gain."""
        return (1 << (self.gain_bits - 1)) - 2

    @property
    def product_bits(self) -> int:
        """Width of a scaled coefficient."""
        grown = {"none": 0, "pot": self.largest_shift + 1, "integer": self.gain_bits}
        return self.coefficient_bits + grown[self.gain]

    @property
    def threshold_bits(self) -> int:
        """Width of a threshold, unsigned: every magnitude but the very largest."""
        return self.product_bits - 1

    @property
    def threshold_format(self) -> Int:
        """How a threshold is coded."""
        return Int(self.threshold_bits, signed=False)

    @property
    def total_bits(self) -> int:
        """Width that holds every result; nothing saturates at it."""
        base = self.inverse.exact_bits
        return max(base, self.bits + (not self.signed)) + 1 if self.residual else base

    @property
    def result_bits(self) -> int:
        """Width of a result."""
        return self.out_bits or min(self.bits + (not self.signed), self.total_bits)

    @property
    def gain_format(self) -> Int | PowerOfTwo:
        """How a gain is coded."""
        return PowerOfTwo(self.gain_bits) if self.gain == "pot" else Int(self.gain_bits)

    def gain_code(self, value: int) -> int:
        """Return the bits that stand for a gain on the parameter stream.

        Raises
        ------
        SpecError
            The code has no such gain.
        """
        try:
            return int(self.gain_format.encode(self.gain_format.check(value, "gains")))
        except ValueError as error:
            raise SpecError(str(error)) from None

    @property
    def parameter_layout(self) -> data.StructLayout:
        """Layout of a beat of the parameter stream."""
        fields: dict[str, Any] = {"threshold": unsigned(self.threshold_bits)}
        if self.gain != "none":
            fields["gain"] = unsigned(self.gain_bits)
        return data.StructLayout(fields)

    def component(self) -> "FreqLayer":
        """Build the layer."""
        return FreqLayer(self)


class Shrink(wiring.Component):
    """Scales and soft-thresholds coefficients, each with parameters of its own.

    Two registers deep: one behind the gain, one behind the threshold.

    Members
    -------
    sample : In(stream of signed(coefficient_bits) × samples_per_cycle)
    result : Out(stream of signed(product_bits) × samples_per_cycle)
    parameter : In(stream of spec.parameter_layout), loadable only
        Parameters of coefficient 0, 1, … and from the start again. Each takes effect at once.
    loaded : Out(1)
        Every coefficient has parameters.
    """

    def __init__(self, spec: FreqLayerSpec) -> None:
        lanes = spec.samples_per_cycle
        coefficients = data.ArrayLayout(signed(spec.coefficient_bits), lanes)
        products = data.ArrayLayout(signed(spec.product_bits), lanes)
        ports: dict[str, Any] = {
            "sample": In(stream.Signature(coefficients)),
            "result": Out(stream.Signature(products)),
            "loaded": Out(1),
        }
        if spec.parameters == "loadable":
            ports["parameter"] = In(stream.Signature(spec.parameter_layout))
        super().__init__(ports)
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build the parameter memories and the two stages."""
        m = Module()
        spec = self.spec
        lanes, beats = spec.samples_per_cycle, spec.beats
        en, take = Signal(), Signal()
        m.d.comb += [
            en.eq(self.result.ready | ~self.result.valid),
            self.sample.ready.eq(en),
            take.eq(en & self.sample.valid),
        ]
        # The parameters of a beat are fetched one edge ahead of it.
        place, ahead = Signal(range(beats)), Signal(range(beats))
        m.d.comb += ahead.eq(Mux(take, Mux(place == beats - 1, 0, place + 1), place))
        m.d.sync += place.eq(ahead)
        parameters = self._parameters(m, ahead)

        scaled_valid = Signal()
        with m.If(en):
            m.d.sync += [scaled_valid.eq(self.sample.valid), self.result.valid.eq(scaled_valid)]
        for lane in range(lanes):
            own = parameters[lane]
            scaled = Signal(signed(spec.product_bits), name=f"scaled_{lane}")
            threshold = Signal(spec.threshold_bits, name=f"threshold_{lane}")
            limit = own.threshold
            if lane == 0 and not spec.threshold_dc:
                first = place & (spec.block // lanes - 1) == 0  # of a block
                limit = Mux(first, 0, limit)
            value = self.sample.p[lane]
            with m.If(en):
                m.d.sync += [
                    scaled.eq(value if spec.gain == "none" else self._scale(value, own.gain)),
                    threshold.eq(limit),
                    self.result.p[lane].eq(soft_threshold(scaled, threshold)),
                ]
        return m

    def _parameters(self, m: Module, ahead: Value) -> list[Any]:
        """Build a memory a lane, and what writes them in turn; return the words fetched."""
        spec = self.spec
        lanes, beats = spec.samples_per_cycle, spec.beats
        constant = spec.parameters == "constant"
        found = []
        write = Signal(range(beats))
        turn = Signal(range(lanes))
        for lane in range(lanes):
            init = []
            if constant:
                assert spec.thresholds is not None
                for index in range(lane, spec.coefficients, lanes):
                    word = {"threshold": spec.thresholds[0][index]}
                    if spec.gains is not None:
                        word["gain"] = spec.gain_code(spec.gains[0][index])
                    init.append(word)
            words = memory.Memory(shape=spec.parameter_layout, depth=beats, init=init)
            m.submodules[f"parameters_{lane}"] = words
            read_port = words.read_port()
            m.d.comb += read_port.addr.eq(ahead)
            found.append(read_port.data)
            if not constant:
                write_port = words.write_port()
                m.d.comb += [
                    write_port.addr.eq(write),
                    write_port.data.eq(self.parameter.p),
                    write_port.en.eq(self.parameter.valid & (turn == lane)),
                ]
        if constant:
            m.d.comb += self.loaded.eq(1)
            return found
        m.d.comb += self.parameter.ready.eq(1)
        with m.If(self.parameter.valid):
            m.d.sync += turn.eq(turn + 1)
            with m.If(turn == lanes - 1):
                m.d.sync += write.eq(Mux(write == beats - 1, 0, write + 1))
                with m.If(write == beats - 1):
                    m.d.sync += self.loaded.eq(1)
        return found

    def _scale(self, value: Value, gain: Value) -> Value:
        """Return the coefficient times a gain, by shifts and additions."""
        spec = self.spec
        if spec.gain == "integer":  # a shifted copy for each bit of the gain, the top one negative
            terms = [Mux(bit, value << place, 0) for place, bit in enumerate(gain)]
            return sum(terms[:-1], start=Const(0, 1)) - terms[-1]
        exponent = gain[:-1]
        shifted = value << (exponent - 1)[: spec.gain_bits - 1].as_unsigned()
        shifted = shifted[: spec.product_bits].as_signed()
        return Mux(exponent == 0, 0, Mux(gain[-1], -shifted, shifted))


def soft_threshold(value: Value, threshold: Value) -> Value:
    """Return ``sign(v) · max(|v| − T, 0)``, as wide as `value`; the threshold is unsigned."""
    value = Value.cast(value)
    below, above = value - threshold, value + threshold
    inside = below[-1] & ~above[-1]  # −T ≤ v < T; at T itself the difference is 0 anyway
    return Mux(inside, 0, Mux(below[-1], above, below))[: len(value)].as_signed()


class FreqLayer(wiring.Component):
    """The layer: pad, transform, gain, soft threshold, transform, crop, residual.

    Members
    -------
    sample : In(stream of sample × samples_per_cycle)
        Vectors of `channels` samples, one after the other. Not ready before parameters are loaded.
    result : Out(stream of signed(result_bits) × samples_per_cycle)
        Vectors of `channels` results.
    parameter : In(stream of spec.parameter_layout), loadable only
        As in `Shrink`.
    """

    port_help = {
        "sample": "vectors of channels, the first sample in the low bits",
        "result": "vectors of results, the first in the low bits",
        "parameter": "threshold and gain of coefficient 0, 1, … and from the start again",
    }

    def __init__(self, spec: FreqLayerSpec) -> None:
        lanes = spec.samples_per_cycle
        shape = Shape(spec.bits, spec.signed)
        ports: dict[str, Any] = {
            "sample": In(stream.Signature(data.ArrayLayout(shape, lanes))),
            "result": Out(stream.Signature(data.ArrayLayout(signed(spec.result_bits), lanes))),
        }
        if spec.parameters == "loadable":
            ports["parameter"] = In(stream.Signature(spec.parameter_layout))
        super().__init__(ports)
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Connect the parts; samples wait in a queue where they are added at the end."""
        m = Module()
        spec = self.spec
        lanes = range(spec.samples_per_cycle)
        m.submodules.forward = forward = spec.forward.component()
        m.submodules.shrink = shrink = Shrink(spec)
        m.submodules.inverse = inverse = spec.inverse.component()
        wiring.connect(m, forward.result, shrink.sample)
        wiring.connect(m, shrink.result, inverse.sample)
        if spec.parameters == "loadable":
            wiring.connect(m, wiring.flipped(self.parameter), shrink.parameter)

        open_, ready = shrink.loaded, forward.sample.ready
        values: list[Value] = [inverse.result.p[lane] for lane in lanes]
        done: Any = inverse.result.valid
        if spec.residual:
            # As deep as the transforms can hold beats: less would lock up.
            transform = spec.forward
            depth = 2 * (transform.beats + transform.levels) + 4
            width = len(self.sample.p.as_value())
            m.submodules.waiting = waiting = fifo.SyncFIFOBuffered(width=width, depth=depth)
            open_ = open_ & waiting.w_rdy
            m.d.comb += [
                waiting.w_data.eq(self.sample.p),
                waiting.w_en.eq(self.sample.valid & shrink.loaded & ready),
                waiting.r_en.eq(inverse.result.valid & self.result.ready),
                inverse.result.ready.eq(waiting.r_rdy & self.result.ready),
            ]
            before = data.View(self.sample.p.shape(), waiting.r_data)
            values = [value + before[lane] for lane, value in enumerate(values)]
            done = done & waiting.r_rdy
        else:
            m.d.comb += inverse.result.ready.eq(self.result.ready)
        m.d.comb += [
            forward.sample.p.eq(self.sample.p),
            forward.sample.valid.eq(self.sample.valid & open_),
            self.sample.ready.eq(ready & open_),
            self.result.valid.eq(done),
        ]
        m.d.comb += [
            self.result.p[lane].eq(saturate(values[lane], signed(spec.result_bits)))
            for lane in lanes
        ]
        return m
