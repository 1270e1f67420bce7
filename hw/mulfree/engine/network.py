"""The network engine: whole quantised networks, layer by layer out of one program."""

from dataclasses import dataclass
from typing import ClassVar

from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mulfree.engine import descriptors
from mulfree.engine.accumulators import Accumulators
from mulfree.engine.drain import Drain
from mulfree.engine.geometry import BANKS, Geometry
from mulfree.engine.maps import Fetch, Largest, MapMemory, Writer, block_memory
from mulfree.engine.pipeline import delayed, pulses, register
from mulfree.engine.program import Program
from mulfree.engine.schedule import PROGRAM_LATENCY, Delays, layer_cycles, layer_reads
from mulfree.engine.sequencer import Sequencer
from mulfree.units.core import Core

#: Room of the queue of weights.
QUEUE = 16
#: The same with a streamed program, where a tile is not used before all of its words are asked for.
#: The core takes the last one up to `Fetch.LATENCY` edges behind the gap; with a room of 8 more the
#: loader, that far ahead, is through within the gap, and costs no clock unless words are late.
STREAM_QUEUE = 32


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(Geometry):
    """An engine that runs whole networks: maps, array, accumulators, requantizers, sequencer."""

    unit: ClassVar[str] = "network"

    def layer_cycles(self, program: Program) -> list[int]:
        """Return the clocks of each layer; their sum is what the hardware counts."""
        return [layer_cycles(self, descriptors.work(self, layer)) for layer in program.layers]

    def layer_reads(self, program: Program) -> list[int]:
        """Return the words of the program that each layer asks for in a run."""
        return [layer_reads(self, descriptors.work(self, layer)) for layer in program.layers]

    def program_image(self, program: Program) -> list[int]:
        """Return the words of the program.

        Raises
        ------
        SpecError
            The program does not fit.
        """
        return descriptors.program(self, program.layers)

    def component(self) -> "Network":
        """Build it."""
        return Network(self)


class Network(wiring.Component):
    """Runs the network of its program on the map in its map memory.

    Members
    -------
    start : In(1)
        Begin; taken while `busy` is 0.
    busy : Out(1)
    cycles, steps, waits : Out(32)
        Of the last run, or of this one so far: clocks, beats of the array, clocks in which a chunk
        waited for accumulators.
    fault : Out(1)
        Weights or activations met a core that was not ready for them. Never, or the engine is
        wrong; reset clears it.
    program_write, program_address, program_data : In, only where `program` is ``memory``
        Write a word of the program, while `busy` is 0.
    program_seek : Out(1), program_from : Out, only where `program` is ``stream``
        The next word that transfers, after this edge, is the one at `program_from`: at the start
        of a run, and where weights are used once more.
    program : In(stream of unsigned(spec.word_bits)), only where `program` is ``stream``
        The program's words, in order. On an edge with `program_seek` none transfers, and an offer
        that has not been taken is to be withdrawn. `ready` does not depend on `valid`.
    map_write, map_bank, map_address, map_data : In
        Write a word of a bank, while `busy` is 0.
    map_word : Out
        The word at `map_bank` and `map_address`, `Network.READ_LATENCY` edges later, while `busy`
        is 0.
    """

    READ_LATENCY = Fetch.HOST_LATENCY + 2

    port_help = {
        "start": "begin the network; taken while busy is 0",
        "busy": "a network runs",
        "cycles": "clocks of the last run, or of this one so far",
        "steps": "beats of the array in it",
        "waits": "clocks in it in which the array waited for accumulators to drain",
        "fault": "the sequencer and the core disagreed; stays until reset",
        "program_write": "write a word of the program",
        "program_address": "where to write it",
        "program_data": "the word",
        "program_seek": "drop what was asked for; go on with the word at program_from",
        "program_from": "address of the word that is to come next, valid with program_seek",
        "program": "words of the program, one after the other from the last program_from on",
        "map_write": "write a word of the map memory",
        "map_bank": "bank to write or read",
        "map_address": "word of the bank to write or read",
        "map_data": "the word to write, the lowest channel in the low bits",
        "map_word": f"the word read, {READ_LATENCY} clocks after its address",
    }

    def __init__(self, spec: NetworkSpec) -> None:
        if spec.streamed:
            program = {
                "program_seek": Out(1),
                "program_from": Out(spec.program_bits),
                "program": In(stream.Signature(spec.word_bits)),
            }
        else:
            program = {
                "program_write": In(1),
                "program_address": In(spec.program_bits),
                "program_data": In(spec.word_bits),
            }
        super().__init__(
            {
                "start": In(1),
                "busy": Out(1),
                "cycles": Out(32),
                "steps": Out(32),
                "waits": Out(32),
                "fault": Out(1),
                **program,
                "map_write": In(1),
                "map_bank": In(ceil_log2(BANKS)),
                "map_address": In(spec.map_bits),
                "map_data": In(spec.word_layout.size),
                "map_word": Out(spec.word_layout.size),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Connect the parts, and the host to the memories."""
        m = Module()
        spec = self.spec
        m.submodules.sequencer = sequencer = Sequencer(spec)
        m.submodules.fetch = fetch = Fetch(spec)
        m.submodules.maps = maps = MapMemory(spec)
        m.submodules.core = core = spec.core.component()
        m.submodules.largest = largest = Largest(spec)
        m.submodules.accumulators = accumulators = Accumulators(spec)
        m.submodules.drain = drain = Drain(spec)
        m.submodules.writer = writer = Writer(spec)
        layer, step = sequencer.layer, sequencer.step
        delays = Delays.of(spec)
        m.d.comb += [
            sequencer.start.eq(self.start),
            self.busy.eq(sequencer.busy),
            fetch.layer.eq(layer),
            drain.layer.eq(layer),
            writer.layer.eq(layer),
            drain.start.eq(sequencer.begin),
            drain.fill.eq(sequencer.loaded),
            writer.start.eq(sequencer.begin),
        ]
        self._program(m, sequencer)

        # From maps to dot products.
        m.d.comb += [
            fetch.tile.eq(sequencer.tile),
            *(
                getattr(fetch, name).eq(getattr(sequencer, name))
                for name in ("step", "recall", "save", "restart")
            ),
            maps.read_address.eq(fetch.address),
            fetch.word.eq(maps.word),
            core.en.eq(1),
            core.act.eq(fetch.act),
            largest.act.eq(fetch.act),
        ]
        taken = self._weights(m, sequencer, core)
        steps = pulses(m, step, delays.summed, "step_late")
        retires = pulses(m, step & sequencer.retire, Fetch.LATENCY, "retire_late")
        drains = pulses(m, step & sequencer.drains, delays.summed, "drains_late")
        weighted = delayed(m, layer.weights, 1, "weighted")
        m.d.comb += core.retire.eq(retires[Fetch.LATENCY])
        refused = sequencer.weight_valid & ~taken
        early = steps[Fetch.LATENCY] & weighted & ~core.loaded
        with m.If(refused | early):
            m.d.sync += self.fault.eq(1)

        # Accumulators.
        ahead = delays.result - Accumulators.LEAD
        slack = delays.result - Fetch.LATENCY
        result = core.result.as_value()
        result = delayed(m, result, slack - spec.core_latency, "result_late")
        most = delayed(m, largest.largest.as_value(), slack - Largest.LATENCY, "largest_late")
        m.d.comb += [
            accumulators.valid.eq(steps[ahead]),
            accumulators.first.eq(delayed(m, sequencer.first, ahead, "first_late")),
            accumulators.bank.eq(delayed(m, sequencer.bank, ahead, "bank_late")),
            accumulators.pixel.eq(delayed(m, sequencer.pixel, ahead, "pixel_late")),
            accumulators.result.eq(result),
            accumulators.maximum.eq(layer.maximum),
            accumulators.largest.eq(most),
            accumulators.drain_bank.eq(drain.bank),
            accumulators.drain_pixel.eq(drain.pixel),
            drain.accs.eq(accumulators.drained),
            drain.summed.eq(drains[delays.summed]),
            sequencer.freed.eq(drain.freed),
            drain.row_write.eq(sequencer.row_write),
            drain.row_address.eq(sequencer.row_address),
            drain.row.eq(sequencer.row),
            drain.term_write.eq(sequencer.term_write),
            drain.term_address.eq(sequencer.term_address),
            drain.term.eq(sequencer.term),
            writer.valid.eq(drain.valid),
            writer.payload.eq(drain.payload),
            sequencer.written.eq(writer.done),
        ]

        # The map memory: the writer's, or the host's, whose side of it is a clock late.
        host = Signal()
        m.d.sync += host.eq(~self.busy)
        given = {
            name: register(m, getattr(self, name), f"{name}_q")
            for name in ("map_write", "map_bank", "map_address", "map_data")
        }
        for bank in range(BANKS):
            m.d.comb += [
                maps.enable[bank].eq(writer.enable[bank]),
                maps.address[bank].eq(writer.address[bank]),
                maps.data[bank].eq(writer.data[bank]),
            ]
            with m.If(host):
                m.d.comb += [
                    maps.enable[bank].eq(given["map_write"] & (given["map_bank"] == bank)),
                    maps.address[bank].eq(given["map_address"]),
                    maps.data[bank].eq(given["map_data"]),
                ]
        m.d.comb += [fetch.host.eq(host), fetch.host_address.eq(given["map_address"])]
        bank = delayed(m, given["map_bank"], Fetch.HOST_LATENCY, "map_bank_late")
        words = Array(fetch.words[bank].as_value() for bank in range(BANKS))
        m.d.comb += self.map_word.eq(register(m, words[bank], "map_word_q"))

        # What was done.
        begins = self.start & ~self.busy
        for count, event in (
            (self.cycles, self.busy),
            (self.steps, steps[1]),
            (self.waits, pulses(m, sequencer.waits, 1, "waits_late")[1]),
        ):
            with m.If(begins):
                m.d.sync += count.eq(0)
            with m.Elif(event):
                m.d.sync += count.eq(count + 1)
        return m

    def _weights(self, m: Module, sequencer: Sequencer, core: Core) -> Value:
        """Queue weights in front of the core, with room for what is on its way; return whether one
        that arrives is taken.
        """
        depth = STREAM_QUEUE if self.spec.streamed else QUEUE
        m.submodules.queue = queue = SyncFIFOBuffered(width=self.spec.load_bits, depth=depth)
        m.d.comb += [
            queue.w_en.eq(sequencer.weight_valid),
            queue.w_data.eq(sequencer.weight),
            queue.r_en.eq(core.weight.ready),
            core.weight.valid.eq(queue.r_rdy),
            core.weight.payload.eq(queue.r_data),
        ]
        m.d.sync += sequencer.weight_room.eq(queue.level < depth - PROGRAM_LATENCY - 3)
        return queue.w_rdy

    def _program(self, m: Module, sequencer: Sequencer) -> None:
        """Connect the program: a memory that the host writes, or what comes from outside."""
        spec = self.spec
        if spec.streamed:
            word = delayed(m, self.program.payload, PROGRAM_LATENCY, "program_word")
            m.d.comb += [
                self.program_seek.eq(sequencer.seek),
                self.program_from.eq(sequencer.address),
                self.program.ready.eq(sequencer.asking),
                sequencer.ready.eq(self.program.valid),
                sequencer.word.eq(word),
            ]
            return
        m.submodules.program = program = block_memory(spec.word_bits, spec.program_words)
        read, write = program.read_port(), program.write_port()
        m.d.comb += [
            read.addr.eq(sequencer.address),
            sequencer.word.eq(delayed(m, read.data, PROGRAM_LATENCY - 1, "program_word")),
            write.addr.eq(self.program_address),
            write.data.eq(self.program_data),
            write.en.eq(self.program_write),
        ]
