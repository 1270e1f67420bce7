"""What is proved of the Walsh-Hadamard transforms: the dense product, and the stream rules."""

from typing import Any

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from mulfree.formats.planes import hadamard
from mulfree.units.wht import TransformSpec, WHTSpec
from mulfree_sim.formal import Proof, of_component

#: Points and bits, at most, of the transforms that stand for larger ones of their form.
SMALL = {"parallel": (4, 2), "streaming": (2, 4), "folded": (2, 2), "serial": (2, 2)}
#: Vectors that go through a stream in its proof.
VECTORS = {"streaming": 2, "folded": 2, "serial": 1}


def proofs(spec: TransformSpec) -> list[Proof]:
    """Return the proofs of one Spec, made on a small transform of the same form."""
    small = reduced(spec)
    size = f"{small.size} points of {small.bits} bits"
    if spec.form == "parallel":
        claim = f"results are the dense product for every vector and enable, {size}"
        check = ParallelProof(small)
        return [of_component("product", claim, check, "bmc", check.depth)]
    size += f", {VECTORS[spec.form]} vectors"
    claim = f"results are the dense product for every vector and stall, {size}"
    check = StreamProof(small)
    rules = RulesProof(small)
    return [
        of_component("product", claim, check, "bmc", check.depth),
        of_component(
            "rules", f"a result on offer stays until it is taken, {size}", rules, "prove", 2
        ),
    ]


def reduced(spec: TransformSpec) -> TransformSpec:
    """Return a transform like the Spec's, of no more points and bits than `SMALL` allows."""
    points, bits = SMALL[spec.form]
    points, bits = min(spec.size, points), min(spec.bits, bits)
    lanes = points // 2 if spec.form == "folded" else points
    return WHTSpec(
        points=points,
        bits=bits,
        signed=spec.signed,
        form=spec.form,
        samples_per_cycle=min(spec.samples_per_cycle, lanes),
        pipeline=spec.pipeline,
        direction=spec.direction,
        shift=min(spec.shift, 2),
    )


def dense(spec: TransformSpec, samples: list[Any]) -> list[Value]:
    """Return the rows of the dense product of one vector, rounded and saturated, in plain terms."""
    blocks = [samples[at : at + spec.size] for at in range(0, spec.padded, spec.size)]
    found = []
    for block in blocks:
        for row in hadamard(spec.size).tolist():
            total = sum((x if sign > 0 else -x for sign, x in zip(row, block, strict=True)), 0)
            if spec.round_shift:
                total = (total + ((1 << spec.round_shift) >> 1)) >> spec.round_shift
            if spec.out_bits:
                low, high = -(1 << (spec.out_bits - 1)), (1 << (spec.out_bits - 1)) - 1
                total = Mux(total < low, low, Mux(total > high, high, total))
            found.append(total)
    return found


class ParallelProof(wiring.Component):
    """The parallel form beside the dense product, which waits as many enabled edges."""

    def __init__(self, spec: TransformSpec) -> None:
        self.spec = spec
        self.dut = spec.component()
        ports: dict[str, Any] = {"en": In(1), "sample": In(self.dut.sample.shape())}
        super().__init__(ports)

    @property
    def depth(self) -> int:
        """Clocks: the pipeline fills, and an edge without an enable may come between."""
        return (self.spec.latency or 0) + 2

    def elaborate(self, platform: object) -> Module:
        """Build the two and compare them."""
        m = Module()
        spec = self.spec
        m.submodules.dut = dut = self.dut
        m.d.comb += dut.sample.eq(self.sample)
        expected: list[Any] = dense(spec, [self.sample[i] for i in range(spec.padded)])
        full: Any = 1
        if spec.latency:
            m.d.comb += dut.en.eq(self.en)
            for edge in range(spec.latency):
                held = [
                    Signal(signed(spec.result_bits), name=f"e{edge}_{i}")
                    for i in range(len(expected))
                ]
                filled = Signal(name=f"filled_{edge}")
                with m.If(self.en):
                    m.d.sync += filled.eq(full)
                    m.d.sync += [h.eq(e) for h, e in zip(held, expected, strict=True)]
                expected, full = held, filled
        else:
            unused = Signal()
            m.d.sync += unused.eq(self.en)  # the tools want a clock
        for place, value in enumerate(expected):
            m.d.comb += Assert(~Value.cast(full) | (dut.result[place] == value))
        return m


class StreamProof(wiring.Component):
    """A streaming form beside a record of what went in: each result is a row of the dense product.

    If nothing ever stalls, all results are out after `depth` clocks.
    """

    def __init__(self, spec: TransformSpec) -> None:
        self.spec = spec
        self.dut = spec.component()
        self._serial = spec.form == "serial"
        ports: dict[str, Any] = {"ready": In(1), "valid": In(1)}
        super().__init__(ports | {"sample": In(self.dut.sample.p.shape())})

    @property
    def depth(self) -> int:
        """Clocks in which all vectors pass without stalls."""
        spec = self.spec
        match spec.form:
            case "streaming":
                return (VECTORS[spec.form] + 1) * spec.beats + spec.levels + 2
            case "folded":
                from mulfree.units.wht import folded

                return VECTORS[spec.form] * folded.cycles(spec) + 2
        from mulfree.units.wht import serial

        return (VECTORS[spec.form] + 1) * serial.cycles(spec) + 3

    def elaborate(self, platform: object) -> Module:
        """Build the record, the counters and the comparison."""
        m = Module()
        spec = self.spec
        m.submodules.dut = dut = self.dut
        lanes, serial = spec.lanes, self._serial
        per_in, per_out = (spec.bits, spec.result_bits) if serial else (1, 1)
        total_in, total_out = (VECTORS[spec.form] * spec.beats * n for n in (per_in, per_out))
        taken, given = Signal(range(total_in + 1)), Signal(range(total_out + 1))
        m.d.comb += [
            dut.sample.p.eq(self.sample),
            dut.sample.valid.eq(self.valid & (taken < total_in)),
            dut.result.ready.eq(self.ready),
        ]

        # All that ever goes in, a beat after the other.
        record = Array(
            Signal(len(self.sample.as_value()), name=f"beat_{beat}") for beat in range(total_in)
        )
        with m.If(dut.sample.valid & dut.sample.ready):
            m.d.sync += [record[taken].eq(self.sample.as_value()), taken.eq(taken + 1)]
        width = 1 if serial else spec.bits
        rows: list[Any] = []
        for vector in range(VECTORS[spec.form]):
            samples = []
            for index in range(spec.size):
                beat, lane = divmod(index, lanes)
                at = (vector * spec.beats + beat) * per_in
                parts = [record[at + bit][lane * width :][:width] for bit in range(per_in)]
                word = Cat(*parts)
                samples.append(word.as_signed() if spec.signed else word.as_unsigned())
            for index, value in enumerate(dense(spec, samples)):
                row = Signal(signed(spec.result_bits), name=f"row_{vector}_{index}")
                m.d.comb += row.eq(value)
                rows.append(row)
        beats = []
        for start in range(0, len(rows), lanes):
            group = rows[start : start + lanes]
            if serial:
                beats += [Cat(row[bit] for row in group) for bit in range(per_out)]
            else:
                beats.append(Cat(*group))
        expected = Array(beats)

        with m.If(dut.result.valid):
            m.d.comb += Assert(given < total_out)
            m.d.comb += Assert(dut.result.p.as_value() == expected[given])
        with m.If(dut.result.valid & self.ready):
            m.d.sync += given.eq(given + 1)

        clock, stalled = Signal(range(self.depth + 1)), Signal()
        m.d.sync += [
            clock.eq(Mux(clock == self.depth, clock, clock + 1)),
            stalled.eq(stalled | ~self.ready | ~self.valid),
        ]
        with m.If((clock == self.depth - 1) & ~stalled):
            m.d.comb += Assert(given == total_out)
        return m


class RulesProof(wiring.Component):
    """A streaming form whose results must not change or go away while they wait."""

    def __init__(self, spec: TransformSpec) -> None:
        self.spec = spec
        self.dut = spec.component()
        ports: dict[str, Any] = {"ready": In(1), "valid": In(1)}
        super().__init__(ports | {"sample": In(self.dut.sample.p.shape())})

    def elaborate(self, platform: object) -> Module:
        """Build it."""
        m = Module()
        m.submodules.dut = dut = self.dut
        payload = dut.result.p.as_value()
        waits, before = Signal(), Signal.like(payload)
        m.d.comb += [
            dut.sample.p.eq(self.sample),
            dut.sample.valid.eq(self.valid),
            dut.result.ready.eq(self.ready),
        ]
        m.d.sync += [waits.eq(dut.result.valid & ~self.ready), before.eq(payload)]
        with m.If(waits):
            m.d.comb += Assert(dut.result.valid & (payload == before))
        return m
