"""Padding and cropping of vectors on streams, and the streams around a transform."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree.units.wht.spec import TransformSpec


class Frame(wiring.Component):
    """Counts beats and says which of them are padding.

    Members
    -------
    step : In(1)
        A beat, real or padding, passes on this clock edge.
    real : Out(1)
        The beat at hand is a real one.
    """

    def __init__(self, runs: list[tuple[int, int]]) -> None:
        self._runs = runs
        super().__init__({"step": In(1), "real": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Build one counter a dimension."""
        m = Module()
        step: Any = self.step
        real: Any = 1
        for level, (length, total) in enumerate(self._runs):
            count = Signal(range(total), name=f"count{level}")
            last = count == total - 1
            with m.If(step):
                m.d.sync += count.eq(Mux(last, 0, count + 1))
            step = step & last
            real = real & (count < length)
        m.d.comb += self.real.eq(real)
        return m


class Pad(wiring.Component):
    """Adds beats of zeros to a stream where a frame says so, without a register."""

    def __init__(self, shape: Any, runs: list[tuple[int, int]]) -> None:
        self._runs = runs
        super().__init__(
            {"sample": In(stream.Signature(shape)), "result": Out(stream.Signature(shape))}
        )

    def elaborate(self, platform: object) -> Module:
        """Build it."""
        m = Module()
        m.submodules.frame = frame = Frame(self._runs)
        payload = self.sample.p.as_value()
        m.d.comb += [
            self.result.p.as_value().eq(Mux(frame.real, payload, 0)),
            self.result.valid.eq(self.sample.valid | ~frame.real),
            self.sample.ready.eq(self.result.ready & frame.real),
            frame.step.eq(self.result.valid & self.result.ready),
        ]
        return m


class Crop(wiring.Component):
    """Drops the beats of a stream that a frame calls padding, without a register."""

    def __init__(self, shape: Any, runs: list[tuple[int, int]]) -> None:
        self._runs = runs
        super().__init__(
            {"sample": In(stream.Signature(shape)), "result": Out(stream.Signature(shape))}
        )

    def elaborate(self, platform: object) -> Module:
        """Build it."""
        m = Module()
        m.submodules.frame = frame = Frame(self._runs)
        m.d.comb += [
            self.result.p.eq(self.sample.p),
            self.result.valid.eq(self.sample.valid & frame.real),
            self.sample.ready.eq(self.result.ready | ~frame.real),
            frame.step.eq(self.sample.valid & self.sample.ready),
        ]
        return m


def beat_runs(
    runs: list[tuple[int, int]], lanes: int, per_sample: int = 1
) -> list[tuple[int, int]]:
    """Return runs of samples as runs of beats, `lanes` samples or ``1/per_sample`` of one each."""
    (real, total), *outer = runs
    inner = [(per_sample, per_sample)] if per_sample > 1 else []
    return [*inner, (real // lanes, total // lanes), *outer]


class Framed(wiring.Component):
    """A transform on streams: pads what comes in, or crops what goes out.

    Beats are in order and vectors follow each other without a gap or a mark between them.

    Members
    -------
    sample : In(stream of spec.sample_layout)
        Samples 0…lanes−1, then the next ones. In the serial form a beat is one bit of each of them,
        the lowest first, `bits` beats each.
    result : Out(stream of spec.result_layout)
        Results likewise; in the serial form `result_bits` beats each. Every result of a vector
        leaves without another vector coming in.
    """

    port_help = {
        "sample": "samples of vectors in order, the first in the low bits",
        "result": "transforms of the vectors in order, the first result in the low bits",
    }

    def __init__(self, spec: TransformSpec, engine: wiring.Component) -> None:
        super().__init__(
            {
                "sample": In(stream.Signature(spec.sample_layout)),
                "result": Out(stream.Signature(spec.result_layout)),
            }
        )
        self.spec = spec
        self._engine = engine

    def elaborate(self, platform: object) -> Module:
        """Connect pad, engine and crop; without padding, the engine alone."""
        m = Module()
        spec = self.spec
        m.submodules.engine = engine = self._engine
        into: Any = wiring.flipped(self.sample)
        out: Any = engine.result
        if spec.samples != spec.padded:
            serial = spec.form == "serial"
            if spec.direction == "forward":
                runs = beat_runs(spec.runs, spec.lanes, spec.bits if serial else 1)
                m.submodules.pad = pad = Pad(spec.sample_layout, runs)
                wiring.connect(m, into, pad.sample)
                into = pad.result
            else:
                runs = beat_runs(spec.runs, spec.lanes, spec.result_bits if serial else 1)
                m.submodules.crop = crop = Crop(spec.result_layout, runs)
                wiring.connect(m, out, crop.sample)
                out = crop.result
        wiring.connect(m, into, engine.sample)
        wiring.connect(m, out, wiring.flipped(self.result))
        return m
