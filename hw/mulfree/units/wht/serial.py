"""The bit-serial form: a few gates a butterfly level, one bit of some samples a clock."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from mulfree.units.wht.spec import TransformSpec

#: Longest delay, in bits, that is kept in flip-flops; a longer one goes round in a memory.
LONGEST_CHAIN = 512


def word_bits(spec: TransformSpec) -> int:
    """Return the clocks that each word takes on its way through: the width of the widest sum."""
    return max(spec.sum_bits, spec.exact_bits + spec.round_shift)


def cycles(spec: TransformSpec) -> int:
    """Return the clock cycles from one vector to the next when vectors follow each other."""
    return spec.beats * word_bits(spec)


class Delay(wiring.Component):
    """A bit wide delay of a fixed number of enabled edges.

    Members
    -------
    en : In(1)
    sample : In(1)
    result : Out(1)
    """

    def __init__(self, length: int) -> None:
        self._length = length
        super().__init__({"en": In(1), "sample": In(1), "result": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Build a chain, or a memory with a pointer that goes round."""
        m = Module()
        length = self._length
        if length <= LONGEST_CHAIN:
            chain = Signal(length, reset_less=True)
            with m.If(self.en):
                m.d.sync += chain.eq(Cat(chain[1:], self.sample))
            m.d.comb += self.result.eq(chain[0])
            return m
        m.submodules.memory = bits = memory.Memory(shape=1, depth=length, init=[])
        write_port, read_port = bits.write_port(), bits.read_port()
        place, ahead = Signal(range(length)), Signal(range(length), init=1)
        with m.If(self.en):
            m.d.sync += [place.eq(ahead), ahead.eq(Mux(ahead == length - 1, 0, ahead + 1))]
        m.d.comb += [
            write_port.addr.eq(place),
            write_port.data.eq(self.sample),
            write_port.en.eq(self.en),
            read_port.addr.eq(Mux(self.en, ahead, place)),
            self.result.eq(read_port.data),
        ]
        return m


class Serial(wiring.Component):
    """Takes and gives vectors bit by bit, the lowest first, `lanes` samples side by side.

    Samples arrive in `bits` beats and stretch to `word_bits` clocks inside; results leave in
    `result_bits` beats. Between samples of one beat a butterfly is two full adders; between beats
    it is the same around a delay (as in the streaming form). All levels share one counter and move
    together. When no vector follows, the engine runs on by itself until the last results are out.
    Once the first bit of a vector is taken, the results of the one before move only with its bits:
    a source that has begun a vector must be able to finish it without waiting for results.

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
        """Build the counters, the full adders of each level, and the rounding."""
        m = Module()
        spec = self.spec
        width, beats, lanes = word_bits(spec), spec.beats, spec.lanes
        bit, beat = Signal(range(width)), Signal(range(beats))
        first, last = bit == 0, bit == width - 1
        # Whether this vector, and the one before it, are real or only push out what is inside.
        this, before = Signal(), Signal()
        start = first & (beat == 0)
        real = Mux(start, self.sample.valid, this)
        waits = (bit < spec.bits) & real
        free = ~self.result.valid | self.result.ready
        busy = self.sample.valid | (~waits & (real | before))
        step = Signal()
        m.d.comb += [
            step.eq(free & busy),
            self.sample.ready.eq(free & (bit < spec.bits) & (this | start)),
        ]
        end = last & (beat == beats - 1)
        with m.If(step):
            m.d.sync += [bit.eq(Mux(last, 0, bit + 1)), this.eq(real)]
            with m.If(last):
                m.d.sync += beat.eq(beat + 1)
            with m.If(end):
                m.d.sync += before.eq(real if beats > 1 else 0)

        # Beyond its own bits a sample repeats its sign.
        values: list[Any] = []
        for lane in range(lanes):
            sign = Signal(name=f"sign_{lane}")
            value = Signal(name=f"sample_{lane}")
            with m.If(step & (bit < spec.bits)):
                m.d.sync += sign.eq(self.sample.p[lane] & spec.signed)
            m.d.comb += value.eq(Mux(bit < spec.bits, self.sample.p[lane], sign))
            values.append(value)
        for level in range(spec.levels):
            stride = 1 << level
            if stride < lanes:
                new = list(values)
                for low in (i for i in range(lanes) if not i & stride):
                    high = low + stride
                    name = f"level{level + 1}_{low}"
                    a, b = values[low], values[high]
                    new[low] = _adder(m, a, b, 0, step, last, f"{name}_sum")
                    new[high] = _adder(m, a, b, 1, step, last, f"{name}_difference")
                values = new
            else:
                delay = beats // 2 * lanes // stride
                second = beat[delay.bit_length() - 1]
                for lane in range(lanes):
                    name = f"level{level + 1}_{lane}"
                    m.submodules[name] = line = Delay(delay * width)
                    old, value = line.result, values[lane]
                    total = _adder(m, old, value, 0, step, last, f"{name}_sum")
                    difference = _adder(m, old, value, 1, step, last, f"{name}_difference")
                    m.d.comb += [line.en.eq(step), line.sample.eq(Mux(second, difference, value))]
                    values[lane] = Signal(name=name)
                    m.d.comb += values[lane].eq(Mux(second, total, old))

        # The first word of a vector leaves with its last beat, the others with the next vector's.
        shift = spec.round_shift
        kept = (bit >= shift) & (bit < shift + spec.result_bits)
        valid = Mux(beat == beats - 1, real, before)
        with m.If(free):
            m.d.sync += self.result.valid.eq(step & valid & kept)
        for lane, value in enumerate(values):
            if shift:
                half = Signal(
                    name=f"half_{lane}"
                )  # the rounding's carry, from the last bit dropped
                with m.If(step):
                    m.d.sync += half.eq(value & (half | (bit < shift)))
                value = value ^ (half & (bit >= shift))
            with m.If(step):
                m.d.sync += self.result.p[lane].eq(value)
        return m


def _adder(m: Module, a: Any, b: Any, minus: int, step: Any, last: Any, name: str) -> Any:
    """Return the sum or difference of two serial numbers; its carry starts anew after `last`."""
    carry = Signal(name=name, init=minus)
    b = ~b if minus else b
    with m.If(step):
        m.d.sync += carry.eq(Mux(last, minus, a & b | carry & (a | b)))
    return a ^ b ^ carry
