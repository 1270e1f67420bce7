"""Runs a Program on the dense engine: checks it, feeds the engine, stores what comes out."""

from typing import Any, NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import crc, data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from mulfree.engine.dense import DenseSpec
from mulfree.soc.program import DENSE, FORMAT, HEADER_WORDS, LAYER_WORDS, MAGIC, Target
from mulfree.soc.registers import register_map

#: A layer descriptor, as `mulfree.soc.program` describes it.
LAYER = data.StructLayout(
    {
        "type": 16, "size": 16, "rows": 16, "columns": 16, "source": 16, "source_stride": 16,
        "result": 16, "result_stride": 16, "weights": 32, "weight_words": 32, "parameters": 16,
        "channels": 16, "zero_point": 8, "low": 8, "high": 8, "spare": 8,
    }
)  # fmt: skip


class Reader(wiring.Component):
    """Turns a memory's read port into a stream of words, one a clock.

    Members
    -------
    start, base, count : In
        Read `count` words from `base` on; only while `idle`.
    idle : Out(1)
        Every word asked for has been read; the last one may still wait on `words`.
    words : Out(stream of 32 bits)
    addr, en, data
        The memory's read port, one clock late.
    """

    start: In(1)
    base: In(16)
    count: In(18)
    idle: Out(1)
    words: Out(stream.Signature(32))
    addr: Out(16)
    en: Out(1)
    data: In(32)

    def elaborate(self, platform: object) -> Module:
        """Build pointer and counter; the port itself holds the word that waits."""
        m = Module()
        left = Signal.like(self.count)
        m.d.comb += [
            self.idle.eq(left == 0),
            self.en.eq(~self.idle & (~self.words.valid | self.words.ready)),
            self.words.payload.eq(self.data),
        ]
        with m.If(self.en):
            m.d.sync += [self.addr.eq(self.addr + 1), left.eq(left - 1), self.words.valid.eq(1)]
        with m.Elif(self.words.ready):
            m.d.sync += self.words.valid.eq(0)
        with m.If(self.start):
            m.d.sync += [self.addr.eq(self.base), left.eq(self.count)]
        return m


class Sequencer(wiring.Component):
    """Checks and runs the program in the program memory, on inputs in the data memory.

    Members
    -------
    start : In(1)
        Begin; only while not `busy`.
    images, streams : In
        As the registers `images` and `control.streams`; hold while `busy`.
    busy, done, ended, error, cycles, program_crc, input_crc, output_crc : Out
        As the registers; `ended` is 1 on the last edge of a run.
    program_addr, program_en, program_data
        Read port of the program memory.
    data_addr, data_en, data_data
        Read port of the data memory.
    store_addr, store_data, store_en
        Write port of the data memory, an enable a byte.
    input, output : streams of words
        Where `streams` sends inputs from and outputs to; `last` is the last word of the outputs.
    """

    def __init__(
        self, spec: DenseSpec, target: Target, program_words: int, data_words: int
    ) -> None:
        m = register_map()
        super().__init__(
            {
                "start": In(1),
                "images": In(m.images.fields["count"].width),
                "streams": In(1),
                "busy": Out(1),
                "done": Out(1),
                "ended": Out(1),
                "error": Out(m.error.fields["code"].width),
                "cycles": Out(32),
                "program_crc": Out(32),
                "input_crc": Out(32),
                "output_crc": Out(32),
                "program_addr": Out(16),
                "program_en": Out(1),
                "program_data": In(32),
                "data_addr": Out(16),
                "data_en": Out(1),
                "data_data": In(32),
                "store_addr": Out(16),
                "store_data": Out(32),
                "store_en": Out(4),
                "input": In(stream.Signature(32)),
                "output": Out(stream.Signature(32)),
                "output_last": Out(1),
            }
        )
        self.spec = spec
        self.target = target
        self.program_words = program_words
        self.data_words = data_words

    def elaborate(self, platform: object) -> Module:
        """Build the engine, the readers, the check sum and the states."""
        m = Module()
        self.errors = register_map().error.fields["code"].encoding
        m.submodules.engine = self.engine = self.spec.component()
        m.submodules.program = self.program = Reader()
        m.submodules.data = self.data = Reader()
        m.submodules.crc = self.crc = crc.Processor(CRC32_ISO_HDLC(data_width=32))
        m.d.comb += [
            self.program_addr.eq(self.program.addr),
            self.program_en.eq(self.program.en),
            self.program.data.eq(self.program_data),
            self.data_addr.eq(self.data.addr),
            self.data_en.eq(self.data.en),
            self.data.data.eq(self.data_data),
        ]
        with m.If(self.busy):
            m.d.sync += self.cycles.eq(self.cycles + 1)

        self.descriptor = Signal(16)
        self.layer = Signal(LAYER)
        self.vectors = Signal(max(len(self.images), self.spec.array.slot_bits + 1))
        #: A reset may have left sums in the engine's accumulators.
        self.stale = Signal(init=1)
        running, finished = Signal(), Signal()
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += [self.busy.eq(1), self.done.eq(0), self.cycles.eq(0)]
                m.d.sync += [self.error.eq(self.errors["none"])]
                m.d.comb += [self.program.start.eq(1), self.program.count.eq(HEADER_WORDS)]
                m.d.comb += self.crc.start.eq(1)
                m.next = "header"
            self._check_program(m)
            self._take_input(m)
            self._run_layers(m, running, finished)
            self._give_output(m)
            with m.State("end"):
                m.d.comb += self.ended.eq(1)
                m.d.sync += [self.busy.eq(0), self.done.eq(1)]
                m.next = "idle"
        # Weights, activations and outputs each walk through a layer at their own pace.
        self._feed_weights(m, running)
        self._feed_activations(m, running)
        m.d.comb += finished.eq(self._store_outputs(m, running))
        return m

    def _taken(self, m: Module, source: Any) -> tuple[Value, Value]:
        """Take every word of a stream in this state; return (valid, word)."""
        m.d.comb += source.ready.eq(1)
        return source.valid, source.payload

    def _fail(self, m: Module, why: str) -> None:
        m.d.sync += self.error.eq(self.errors[why])
        m.next = "end"

    def _check_program(self, m: Module) -> None:
        """Read the header, then the rest up to the CRC; refuse what does not fit."""
        names = register_map()
        limits = names.limits.fields
        own = names.limits.unpack(self.target.limits)
        index = Signal(range(HEADER_WORDS))
        wrong = {
            why: Signal(name=f"wrong_{why}") for why in ("magic", "format", "engine", "limits")
        }
        length = Signal(32)
        self.layers = Signal(16)
        self.source, self.source_stride = Signal(16), Signal(16)
        self.result, self.result_stride = Signal(16), Signal(16)
        batch = Signal(limits["slots"].width)
        with m.State("header"):
            taken, word = self._taken(m, self.program.words)
            m.d.comb += [self.crc.valid.eq(taken), self.crc.data.eq(word)]
            with m.If(taken):
                m.d.sync += index.eq(index + 1)
                with m.Switch(index):
                    with m.Case(0):
                        m.d.sync += wrong["magic"].eq(word != MAGIC)
                    with m.Case(1):
                        m.d.sync += wrong["format"].eq(word != FORMAT)
                    with m.Case(2):
                        m.d.sync += length.eq(word)
                    with m.Case(3):
                        needed = self.target.engine & ~names.engine.fields["kind"].mask
                        m.d.sync += wrong["engine"].eq(word != needed)
                    with m.Case(4), m.If(word != self.target.shape):
                        m.d.sync += wrong["engine"].eq(1)
                    with m.Case(5):
                        beyond = [
                            word[f.low : f.low + f.width] > own[name] for name, f in limits.items()
                        ]
                        m.d.sync += wrong["limits"].eq(Cat(beyond).any())
                        m.d.sync += batch.eq(word)
                    with m.Case(6), m.If(word > self.data_words):
                        m.d.sync += wrong["limits"].eq(1)
                    with m.Case(7):
                        m.d.sync += self.layers.eq(word)
                    with m.Case(9):
                        m.d.sync += Cat(self.source, self.source_stride).eq(word)
                    with m.Case(10):
                        m.d.sync += Cat(self.result, self.result_stride).eq(word)
                with m.If(index == HEADER_WORDS - 1):
                    m.next = "length"
        with m.State("length"):
            m.d.comb += self.program.count.eq(length - HEADER_WORDS)
            with m.If(wrong["magic"]):
                self._fail(m, "magic")
            with m.Elif(wrong["format"]):
                self._fail(m, "format")
            with m.Elif((length > self.program_words) | (length <= HEADER_WORDS)):
                self._fail(m, "length")
            with m.Else():
                m.d.comb += [self.program.start.eq(1), self.program.base.eq(HEADER_WORDS)]
                m.next = "scan"
        last = Signal(32)
        with m.State("scan"):
            taken, word = self._taken(m, self.program.words)
            ends = self.program.idle
            m.d.comb += [self.crc.valid.eq(taken & ~ends), self.crc.data.eq(word)]
            with m.If(taken & ends):
                m.d.sync += [self.program_crc.eq(self.crc.crc), last.eq(word)]
                m.next = "check"
        counted = Signal.like(self.images)
        self.source_words, self.result_words = Signal(18), Signal(18)
        with m.State("check"):
            m.d.sync += [counted.eq(0), self.source_words.eq(0), self.result_words.eq(0)]
            with m.If(self.program_crc != last):
                self._fail(m, "crc")
            for why in ("engine", "limits"):
                with m.Elif(wrong[why]):
                    self._fail(m, why)
            with m.Elif((self.images == 0) | (self.images > batch)):
                self._fail(m, "images")
            with m.Else():
                m.next = "measure"
        with m.State("measure"):
            m.d.sync += [
                counted.eq(counted + 1),
                self.source_words.eq(self.source_words + self.source_stride),
                self.result_words.eq(self.result_words + self.result_stride),
            ]
            with m.If(counted == self.images):
                m.d.sync += [
                    self.source_words.eq(self.source_words),
                    self.result_words.eq(self.result_words),
                ]
                m.d.comb += [
                    self.crc.start.eq(1),
                    self.data.base.eq(self.source),
                    self.data.count.eq(self.source_words),
                    self.data.start.eq(~self.streams),
                ]
                m.next = "input"

    def _take_input(self, m: Module) -> None:
        """Form the CRC of the inputs, which the stream may bring first."""
        place = Signal(18)
        with m.State("input"):
            taken, word = Signal(), Signal(32)
            m.d.comb += [self.crc.valid.eq(taken), self.crc.data.eq(word)]
            with m.If(self.streams):
                m.d.comb += [
                    self.input.ready.eq(1),
                    taken.eq(self.input.valid),
                    word.eq(self.input.payload),
                    self.store_addr.eq(self.source + place),
                    self.store_data.eq(word),
                    self.store_en.eq(taken.replicate(4)),
                ]
            with m.Else():
                m.d.comb += [
                    self.data.words.ready.eq(1),
                    taken.eq(self.data.words.valid),
                    word.eq(self.data.words.payload),
                ]
            with m.If(taken):
                m.d.sync += place.eq(place + 1)
                with m.If(place == self.source_words - 1):
                    m.d.sync += place.eq(0)
                    m.next = "input end"
        with m.State("input end"):
            m.d.sync += [self.input_crc.eq(self.crc.crc), self.descriptor.eq(HEADER_WORDS)]
            with m.If(self.stale):
                # One layer whose outputs go nowhere sends, and so clears, every accumulator.
                tile = self.spec.core.outputs * self.spec.core.lanes // 4
                m.d.sync += [
                    self.vectors.eq(self.spec.acc_slots),
                    self.layer.eq(0),
                    self.layer.rows.eq(1),
                    self.layer.columns.eq(1),
                    self.layer.weight_words.eq(tile),
                    self.layer.channels.eq(1),
                ]
                m.d.comb += [self.program.start.eq(1), self.program.count.eq(3)]
                m.next = "parameters"
            with m.Else():
                m.next = "next layer"

    def _run_layers(self, m: Module, running: Signal, finished: Signal) -> None:
        """Read a descriptor, load the parameters, then let weights, beats and outputs flow."""
        layer, scaler = self.layer, self.spec.requantizer
        index = Signal(range(LAYER_WORDS))
        with m.State("next layer"):
            m.d.sync += self.vectors.eq(self.images)
            with m.If(self.layers == 0):
                m.d.comb += [
                    self.crc.start.eq(1),
                    self.data.start.eq(1),
                    self.data.base.eq(self.result),
                    self.data.count.eq(self.result_words),
                ]
                m.next = "output"
            with m.Else():
                m.d.sync += self.layers.eq(self.layers - 1)
                m.d.comb += [
                    self.program.start.eq(1),
                    self.program.base.eq(self.descriptor),
                    self.program.count.eq(LAYER_WORDS),
                ]
                m.next = "layer"
        with m.State("layer"):
            taken, word = self._taken(m, self.program.words)
            with m.If(taken):
                m.d.sync += [
                    layer.eq(Cat(layer.as_value()[32:], word)),
                    index.eq(index + 1),
                ]
                with m.If(index == LAYER_WORDS - 1):
                    m.next = "layer type"
        with m.State("layer type"):
            m.d.sync += self.descriptor.eq(self.descriptor + layer.size)
            with m.If(layer.type != DENSE):
                self._fail(m, "layer")
            with m.Else():
                m.d.comb += [
                    self.program.start.eq(1),
                    self.program.base.eq(layer.parameters),
                    self.program.count.eq(layer.channels + (layer.channels << 1)),
                ]
                m.next = "parameters"

        part = Signal(range(3))
        channel = Signal(16)
        bias, multiplier = Signal(32), Signal(32)
        given = self.engine.parameter
        with m.State("parameters"):
            taken, word = self._taken(m, self.program.words)
            m.d.comb += [
                given.payload.bias.eq(bias[: scaler.acc_bits]),
                given.payload.multiplier.eq(multiplier),
                given.payload.shift.eq(self.program.words.payload),
                given.payload.last.eq(channel == layer.channels - 1),
            ]
            with m.If(taken):
                m.d.sync += [bias.eq(multiplier), multiplier.eq(word), part.eq(part + 1)]
                with m.If(part == 2):
                    # The engine always takes parameters.
                    m.d.comb += given.valid.eq(1)
                    m.d.sync += [part.eq(0), channel.eq(channel + 1)]
                    with m.If(given.payload.last):
                        m.d.sync += channel.eq(0)
                        m.next = "tiles"
        with m.State("tiles"):
            m.d.comb += [
                self.program.start.eq(1),
                self.program.base.eq(layer.weights),
                self.program.count.eq(layer.weight_words),
            ]
            m.next = "run"
        with m.State("run"):
            m.d.comb += running.eq(1)
            with m.If(finished):
                m.d.sync += self.stale.eq(0)
                m.next = "next layer"

    def _feed_weights(self, m: Module, running: Signal) -> None:
        """Cut the words of the tiles into weights, as fast as the array takes them."""
        words, weight = self.program.words, self.engine.weight
        index = Signal(2)
        m.d.comb += [
            weight.payload.eq(words.payload.word_select(index, 8)),
            weight.valid.eq(words.valid & running),
        ]
        with m.If(running):
            m.d.comb += words.ready.eq(weight.ready & (index == 3))
        with m.If(weight.valid & weight.ready):
            m.d.sync += index.eq(index + 1)

    def _feed_activations(self, m: Module, running: Signal) -> None:
        """For each group of outputs and each tile: that part of every vector, one beat each."""
        layer, core, act = self.layer, self.spec.core, self.engine.act
        words = core.lanes // 4
        # Reading ahead: its own walk over rows, columns and vectors.
        ask = Signal()
        walk = self._walk(m, "ask", ask, [self.vectors, layer.columns, layer.rows])
        column_base, vector = Signal(16), Signal(16)
        asked = Signal()
        m.d.comb += ask.eq(running & ~asked & self.data.idle)
        with m.If(running):
            m.d.comb += [
                self.data.start.eq(ask),
                self.data.base.eq(vector),
                self.data.count.eq(words),
            ]
            with m.If(ask):
                m.d.sync += vector.eq(vector + layer.source_stride)
                with m.If(walk.ends[0]):
                    m.d.sync += [
                        column_base.eq(column_base + words),
                        vector.eq(column_base + words),
                    ]
                with m.If(walk.ends[1]):
                    m.d.sync += [column_base.eq(layer.source), vector.eq(layer.source)]
                with m.If(walk.ends[2]):
                    m.d.sync += asked.eq(1)
        with m.Else():
            m.d.sync += [column_base.eq(layer.source), vector.eq(layer.source), asked.eq(0)]

        # Words gather until they are a beat.
        taken = Signal()
        beat = self._walk(m, "beat", taken, [self.vectors, layer.columns, layer.rows])
        gathered = Signal(32 * (words - 1))
        index = Signal(range(words))
        stream = self.data.words
        lanes = Cat(gathered, stream.payload)
        full = index == words - 1
        m.d.comb += [
            *(act.payload.act[lane].eq(lanes.word_select(lane, 8)) for lane in range(core.lanes)),
            act.payload.slot.eq(beat.counts[0]),
            act.payload.retire.eq(beat.last[0]),
            act.payload.last.eq(beat.last[1]),
            act.valid.eq(running & stream.valid & full),
            taken.eq(act.valid & act.ready),
        ]
        with m.If(running):
            m.d.comb += stream.ready.eq(~full | act.ready)
            with m.If(stream.valid & stream.ready):
                m.d.sync += [index.eq(Mux(full, 0, index + 1)), gathered.eq(lanes[32:])]

    def _store_outputs(self, m: Module, running: Signal) -> Value:
        """Put the outputs where the next layer finds them; return when the last one is stored."""
        layer, out = self.layer, self.engine.out
        m.d.comb += [
            self.engine.zero_point.eq(layer.zero_point),
            self.engine.low.eq(layer.low),
            self.engine.high.eq(layer.high),
        ]
        taken = Signal()
        outputs = self.spec.core.outputs
        walk = self._walk(m, "out", taken, [outputs, self.vectors, layer.rows])
        group_base, vector = Signal(18), Signal(18)  # byte addresses
        place = Signal(18)
        m.d.comb += [taken.eq(out.valid & running), place.eq(vector + walk.counts[0])]
        with m.If(running):
            value = out.payload[0]
            fill = value[-1] if self.spec.out_signed else 0
            byte = Cat(value, *[fill] * (8 - len(value)))
            m.d.comb += [
                out.ready.eq(1),
                self.store_addr.eq(place >> 2),
                self.store_data.eq(byte.replicate(4)),
                self.store_en.eq(Mux(taken & ~self.stale, 1 << place[:2], 0)),
            ]
            with m.If(walk.ends[0]):
                m.d.sync += vector.eq(vector + (layer.result_stride << 2))
            with m.If(walk.ends[1]):
                m.d.sync += [group_base.eq(group_base + outputs), vector.eq(group_base + outputs)]
        with m.Else():
            base = layer.result << 2
            m.d.sync += [group_base.eq(base), vector.eq(base)]
        return walk.ends[2]

    def _walk(self, m: Module, name: str, step: Value, limits: list[Any]) -> "_Walk":
        """Count through nested loops, the innermost first, one place a `step`."""
        walk = _Walk([], [], [])
        inner: Value | None = None
        for depth, limit in enumerate(limits):
            width = limit.bit_length() if isinstance(limit, int) else len(limit)
            count = Signal(width, name=f"{name}_count{depth}")
            at_end, ends = Signal(name=f"{name}_last{depth}"), Signal(name=f"{name}_ends{depth}")
            m.d.comb += at_end.eq(count == limit - 1)
            advance = step if inner is None else inner
            m.d.comb += ends.eq(advance & at_end)
            with m.If(advance):
                m.d.sync += count.eq(Mux(at_end, 0, count + 1))
            walk.counts.append(count)
            walk.last.append(at_end)
            walk.ends.append(ends)
            inner = ends
        return walk

    def _give_output(self, m: Module) -> None:
        """Form the CRC of the outputs, and send them where they are asked for."""
        words = self.data.words
        with m.State("output"):
            taken = Signal()
            m.d.comb += [
                self.output.payload.eq(words.payload),
                self.output_last.eq(self.data.idle),
                self.output.valid.eq(self.streams & words.valid),
                words.ready.eq(~self.streams | self.output.ready),
                taken.eq(words.valid & words.ready),
                self.crc.valid.eq(taken),
                self.crc.data.eq(words.payload),
            ]
            with m.If(taken & self.data.idle):
                m.next = "output end"
        with m.State("output end"):
            m.d.sync += self.output_crc.eq(self.crc.crc)
            m.next = "end"


class _Walk(NamedTuple):
    """Nested counters: their values, whether each is at its last, and the step that ends each."""

    counts: list[Signal]
    last: list[Signal]
    ends: list[Signal]
