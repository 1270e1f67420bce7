"""The streaming form: vectors flow through the butterfly levels, some samples a clock."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree.arith.butterfly import butterfly
from mulfree.units.wht.spec import TransformSpec


class DelayLevel(wiring.Component):
    """A butterfly level between samples `delay` beats apart, on all lanes alike.

    The first `delay` beats of a pair of halves are kept. With each beat of the second half the sum
    leaves and the difference takes the kept sample's place; differences leave in the beats that
    follow, whether or not new samples come in with them (single-path delay feedback). Combinational
    from `sample` to `result`.

    Members
    -------
    en : In(1)
        Everything may move on this clock edge.
    valid : In(1)
        A beat of samples is there.
    sample : In(signed(width) × lanes)
    result_valid : Out(1)
        A beat of results is there.
    result : Out(signed(width + 1) × lanes)
    """

    def __init__(self, delay: int, lanes: int, width: int) -> None:
        self._delay = delay
        self._lanes = lanes
        self._width = width
        super().__init__(
            {
                "en": In(1),
                "valid": In(1),
                "sample": In(data.ArrayLayout(signed(width), lanes)),
                "result_valid": Out(1),
                "result": Out(data.ArrayLayout(signed(width + 1), lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memory of `delay` beats, its two pointers, and a butterfly a lane."""
        m = Module()
        delay = self._delay
        shape = data.ArrayLayout(signed(self._width + 1), self._lanes)
        kept, store = Signal(shape), Signal(shape)

        # Each beat that comes in writes one word, each that goes out reads one. In the second half
        # the two go together; after it `draining` says that differences are left.
        write = Signal(range(delay))
        read = Signal(range(delay))
        second = Signal()
        draining = Signal()
        take = self.en & self.valid
        give = self.en & self.result_valid
        m.d.comb += self.result_valid.eq(self.valid & second | draining)
        with m.If(take):
            m.d.sync += write.eq(write + 1)
            with m.If(write == delay - 1):
                m.d.sync += second.eq(~second)
        with m.If(give):
            m.d.sync += read.eq(read + 1)
            with m.If(read == delay - 1):
                m.d.sync += draining.eq(second)

        self._keep(m, write, take, store, read, give, kept)
        for lane in range(self._lanes):
            old, new = kept[lane], self.sample[lane]
            total, difference = butterfly(old[: self._width].as_signed(), new)
            m.d.comb += [
                store[lane].eq(Mux(second, difference, new)),
                self.result[lane].eq(Mux(second, total, old)),
            ]
        return m

    def _keep(
        self, m: Module, write: Any, take: Any, store: Any, read: Any, give: Any, kept: Any
    ) -> None:
        """Build the memory; `kept` is the word at `read` from before this edge."""
        if self._delay == 1:
            with m.If(take):
                m.d.sync += kept.eq(store)
            return
        m.submodules.memory = words = memory.Memory(shape=kept.shape(), depth=self._delay, init=[])
        write_port = words.write_port()
        read_port = words.read_port()
        # The word is fetched one edge ahead. What was written on that same edge is read `delay`
        # beats later and fetched anew until then.
        m.d.comb += [
            write_port.addr.eq(write),
            write_port.data.eq(store),
            write_port.en.eq(take),
            read_port.addr.eq(read + give),
            kept.eq(read_port.data),
        ]


class Streaming(wiring.Component):
    """Takes and gives `lanes` samples a clock, in order, without a pause between vectors.

    The levels inside a beat come first, then those between beats, farthest first: each leaves its
    results in natural order, so that nothing is reordered. A register follows every `pipeline`
    levels and the last. All registers move together unless a result waits to be taken.

    Members
    -------
    sample : In(stream of spec.sample_layout)
    result : Out(stream of spec.result_layout)
    """

    def __init__(self, spec: TransformSpec) -> None:
        super().__init__(
            {
                "sample": In(stream.Signature(spec.sample_layout)),
                "result": Out(stream.Signature(spec.result_layout)),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build level by level."""
        m = Module()
        spec = self.spec
        lanes = range(spec.lanes)
        en = Signal()
        m.d.comb += [en.eq(self.result.ready | ~self.result.valid), self.sample.ready.eq(en)]
        valid: Any = self.sample.valid
        values: list[Any] = [
            Signal(signed(spec.signed_bits), name=f"sample_{lane}") for lane in lanes
        ]
        m.d.comb += [value.eq(self.sample.p[lane]) for lane, value in enumerate(values)]
        for level in range(spec.levels):
            width = spec.signed_bits + level
            stride = 1 << level
            if stride < spec.lanes:
                pairs = {
                    i: butterfly(values[i], values[i + stride]) for i in lanes if not i & stride
                }
                values = [pairs[i & ~stride][bool(i & stride)] for i in lanes]
            else:
                delay = spec.beats // 2 * spec.lanes // stride
                stage = DelayLevel(delay, spec.lanes, width)
                m.submodules[f"level{level + 1}"] = stage
                m.d.comb += [stage.en.eq(en), stage.valid.eq(valid)]
                m.d.comb += stage.sample.as_value().eq(Cat(*values))
                valid = stage.result_valid
                values = [stage.result[lane] for lane in lanes]
            last = level == spec.levels - 1
            if last:
                values = [spec.finish(value) for value in values]
            if last or (level + 1) % spec.pipeline == 0:
                shape = signed(spec.result_bits if last else width + 1)
                held = [Signal(shape, name=f"level{level + 1}_{lane}") for lane in lanes]
                held_valid = Signal(name=f"level{level + 1}_valid")
                with m.If(en):
                    m.d.sync += held_valid.eq(valid)
                    m.d.sync += [h.eq(value) for h, value in zip(held, values, strict=True)]
                valid, values = held_valid, held
        m.d.comb += self.result.valid.eq(valid)
        m.d.comb += [self.result.p[lane].eq(values[lane]) for lane in lanes]
        return m
