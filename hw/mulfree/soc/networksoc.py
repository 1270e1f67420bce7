"""The network engine behind a bus: its memories in windows, and a description that a host reads."""

import dataclasses
import json
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from amaranth.hdl import (
    C,
    Cat,
    ClockDomain,
    ClockSignal,
    DomainRenamer,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import crc, memory, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

import mulfree
from mulfree.engine.geometry import BANKS
from mulfree.engine.network import Network, NetworkSpec
from mulfree.engine.program import Program
from mulfree.formats import PowerOfTwo
from mulfree.soc.bus import RegisterFile
from mulfree.soc.program import Target
from mulfree.soc.registers import register_map
from mulfree.soc.system import OFFSET_BITS, Access, Reply, System, SystemSpec, target_of
from mulfree.soc.windows import BANK_WORDS, image_size, pieces_of
from mulfree.spec import SpecError
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec


@dataclass(frozen=True, kw_only=True)
class NetworkSocSpec(NetworkSpec, SystemSpec):
    """The network engine behind a UART, Wishbone or AXI4-Lite."""

    unit: ClassVar[str] = "networksoc"

    def check(self) -> None:
        """Check that the memories fit their windows."""
        super().check()
        if self.streamed:
            raise SpecError(f"program must be memory behind a bus, not {self.program!r}")
        most = BANK_WORDS // self.map_pieces
        if self.map_words > most:
            raise SpecError(f"map_words must be at most {most} behind a bus, not {self.map_words}")
        room = register_map().program.words
        if self.program_size > room:
            raise SpecError(
                f"program_words must be at most {room // self.program_pieces} behind a bus, "
                f"not {self.program_words}"
            )

    @property
    def network(self) -> NetworkSpec:
        """The engine alone."""
        names = (f.name for f in dataclasses.fields(NetworkSpec))
        return NetworkSpec(**{name: getattr(self, name) for name in names})

    @property
    def target(self) -> Target:
        """What the registers `engine`, `shape` and `limits` read."""
        return target_of(
            self.core,
            runs="network",
            acc_bits=self.acc_bits,
            rounding=self.rounding,
            slots=1,
            channels=self.channels,
            left_shift=self.left_shift,
        )

    @property
    def program_size(self) -> int:
        """Words of 32 bits that the program memory takes."""
        return self.program_words * self.program_pieces

    @property
    def program_pieces(self) -> int:
        """Words of 32 bits in one of the program memory."""
        return pieces_of(self.word_bits)

    @property
    def map_pieces(self) -> int:
        """Words of 32 bits in one of the map memory."""
        return pieces_of(self.word_layout.size)

    @classmethod
    def for_program(cls, program: Program, **values: Any) -> Self:
        """Return a system that runs a program, with memories no larger than it needs.

        Raises
        ------
        SpecError
            No engine of the hardware does.
        """
        shape = program.shape
        parts: dict[str, Any] = {
            "outputs": shape.outputs,
            "lanes": shape.lanes,
            "act_bits": shape.act.bits,
            "act_signed": shape.act.signed,
            "weight_bits": shape.weight.bits,
            "fill_lanes": 1,
        }
        if isinstance(shape.weight, PowerOfTwo):
            core = PoTSpec(**parts, terms=shape.weight.terms)
        else:
            core = LutNASpec(**parts)
        return cls.around(program, core=core, **values)

    @classmethod
    def around(cls, program: Program, **values: Any) -> Self:
        """Return a system around a core, with memories no larger than a program needs."""
        shape = program.shape
        needed = {
            "acc_bits": shape.acc_bits,
            "scalers": shape.scalers,
            "rounding": shape.rounding,
            **program.least,
        }
        own = {f.name for f in dataclasses.fields(NetworkSpec)}
        values = needed | values
        engine = NetworkSpec(**{n: v for n, v in values.items() if n in own}, program_words=1 << 20)
        return cls(**values, program_words=max(16, image_size(engine, program)))

    # What a host has to know

    @property
    def description(self) -> bytes:
        """What the window `about` holds."""
        about = {
            "mulfree": mulfree.__version__,
            "layout": layout_crc(self),
            "engine": _brief(self.network),
        }
        return json.dumps(about, separators=(",", ":")).encode()

    @staticmethod
    def described(content: bytes) -> NetworkSpec:
        """Return the engine of a description.

        Raises
        ------
        SpecError
            It is no description, or of an engine whose programs are laid out in another way.
        """
        try:
            about = json.loads(content)
            engine = NetworkSpec.from_dict(about["engine"])
            version, layout = about["mulfree"], about["layout"]
        except (ValueError, KeyError, TypeError) as error:
            raise SpecError(f"description must be that of a network engine: {error}") from None
        if layout != layout_crc(engine):
            raise SpecError(
                f"engine must be of this mulfree ({mulfree.__version__}), or one that lays "
                f"programs out in the same way, not of {version}"
            )
        return engine

    def component(self) -> Any:
        """Build the top."""
        return NetworkSoc(self)


def layout_crc(engine: NetworkSpec) -> int:
    """Return a check sum of how an engine's programs are laid out."""
    layouts = engine.layer_layout, engine.row_layout, engine.term_layout, engine.tile_layout
    fields = [[(name, f.offset, f.width) for name, f in layout] for layout in layouts]
    return zlib.crc32(repr((fields, engine.word_bits, engine.core.load_weights)).encode())


def _brief(spec: Any) -> dict[str, Any]:
    """Return a Spec as `Spec.from_dict` takes it, without what is as it is by default."""
    values: dict[str, Any] = {"unit": spec.unit}
    for f in dataclasses.fields(spec):
        value = getattr(spec, f.name)
        if f.metadata["kind"] == "nested":
            values[f.name] = _brief(value)
        elif value != f.default:
            values[f.name] = value
    return values


class CheckSums(wiring.Component):
    """Forms the CRC-32s of what crosses the windows.

    Members
    -------
    kind : In
        What an access is: `PROGRAM`, `INPUT` or `OUTPUT`; another one than before begins a check
        sum anew.
    begin : In(1)
        So does the first word of a program.
    forget : In(1)
        The next access begins a check sum anew.
    offset, word : In
        The word's number in its window, and the word.
    valid, beat : In
        Half a word goes into the check sum, on each of `BEATS` edges: 0 and 1 those of the number.
    program, input, output : Out(32)
        The CRCs, three edges after their last word.
    """

    NONE, PROGRAM, INPUT, OUTPUT = range(4)
    BEATS = 4

    kind: In(2)
    begin: In(1)
    forget: In(1)
    offset: In(OFFSET_BITS)
    word: In(32)
    valid: In(1)
    beat: In(2)
    program: Out(32)
    input: Out(32)
    output: Out(32)

    def elaborate(self, platform: object) -> Module:
        """Build one CRC for all, and a register for each."""
        m = Module()
        m.submodules.crc = total = crc.Processor(CRC32_ISO_HDLC(data_width=16))
        before, complete = Signal.like(self.kind), Signal()
        number = Value.cast(self.offset) | C(0, 32)
        half, kind = Signal(16), Signal.like(self.kind)
        valid, begin, ends = Signal(), Signal(), Signal()
        m.d.sync += [
            half.eq(Cat(number, self.word).word_select(self.beat, 16)),
            kind.eq(self.kind),
            valid.eq(self.valid),
            begin.eq(self.begin & (self.beat == 0)),
            ends.eq(self.beat == self.BEATS - 1),
            complete.eq(valid & ends),
        ]
        m.d.comb += [
            total.valid.eq(valid),
            total.data.eq(half),
            total.start.eq(valid & ((kind != before) | begin)),
        ]
        with m.If(self.forget):
            m.d.sync += before.eq(self.NONE)
        with m.Elif(valid):
            m.d.sync += before.eq(kind)
        with m.If(complete), m.Switch(before):
            for kind, kept in (
                (self.PROGRAM, self.program),
                (self.INPUT, self.input),
                (self.OUTPUT, self.output),
            ):
                with m.Case(kind):
                    m.d.sync += kept.eq(total.crc)
        return m


class NetworkSoc(System):
    """The network engine on a bus."""

    def __init__(self, spec: NetworkSocSpec) -> None:
        super().__init__(spec)
        self.spec = spec

    def engine(self, m: Module, registers: RegisterFile, access: Access) -> Reply:
        """Connect the engine's memories, the check sums and the registers."""
        network = self.spec.network.component()
        # The engine's reset comes from a register, as it goes far; an abort is one, too.
        abort = Signal(init=1)
        m.d.sync += abort.eq(registers.control__abort)
        m.domains.engine = ClockDomain("engine", local=True)
        m.d.comb += [ClockSignal("engine").eq(ClockSignal()), ResetSignal("engine").eq(abort)]
        m.submodules.network = DomainRenamer("engine")(network)
        m.submodules.check_sums = check_sums = CheckSums()
        to_program, to_data, ready = Signal(), Signal(), Signal()
        write = ready & access.write
        there, from_about = self._about(m, access)
        free = ~network.busy & (access.sel.all() | ~access.write)
        m.d.sync += [
            to_program.eq(free & self._program(m, network, access, to_program & write)),
            to_data.eq(free & self._maps(m, network, access, to_data & write)),
        ]
        known = to_program | to_data | there
        word = Mux(access.to["about"], from_about, self._map_word(network, access))

        # The clocks of an access: the last ones form the check sum, and the last one writes.
        clock = Signal(range(Network.READ_LATENCY + CheckSums.BEATS))
        begins = Mux(access.write | there, 0, Network.READ_LATENCY)
        m.d.comb += [
            ready.eq(access.request & (clock == begins + CheckSums.BEATS - 1)),
            check_sums.kind.eq(Mux(to_program, CheckSums.PROGRAM, CheckSums.OUTPUT - access.write)),
            check_sums.begin.eq(to_program & (access.offset == 0)),
            check_sums.forget.eq(registers.control__start),
            check_sums.valid.eq(access.request & (to_program | to_data) & (clock >= begins)),
            check_sums.beat.eq(clock - begins),
            check_sums.offset.eq(access.offset),
            check_sums.word.eq(Mux(access.write, access.data, word)),
        ]
        m.d.sync += clock.eq(Mux(access.request & known & ~ready, clock + 1, 0))
        self._run(m, registers, network, abort)
        m.d.comb += [
            registers.program_crc__crc.eq(check_sums.program),
            registers.input_crc__crc.eq(check_sums.input),
            registers.output_crc__crc.eq(check_sums.output),
        ]
        return Reply(known, ready, word)

    def _about(self, m: Module, access: Access) -> tuple[Value, Value]:
        """Build the description; return whether an access is to it, and its word."""
        content = self.spec.description
        words = np.frombuffer(content + bytes(-len(content) % 4), "<u4").tolist()
        m.submodules.about = about = memory.Memory(shape=32, depth=len(words), init=words)
        read = about.read_port()
        m.d.comb += read.addr.eq(access.offset)
        there = Signal()
        m.d.sync += there.eq(access.to["about"] & ~access.write & (access.offset < len(words)))
        return there, read.data

    def _program(self, m: Module, network: Any, access: Access, write: Value) -> Value:
        """Write the program memory, in order; return whether an access is what comes next."""
        spec = self.spec
        count, size = spec.program_pieces, spec.program_size
        first = access.offset == 0
        place = Signal(range(size + 1))
        row, piece = Signal(range(spec.program_words + 1)), Signal(range(count))
        row_now, piece_now = Mux(first, 0, row), Mux(first, 0, piece)
        whole = piece_now == count - 1
        with m.If(write):
            m.d.sync += [
                place.eq(access.offset + 1),
                piece.eq(Mux(whole, 0, piece_now + 1)),
                row.eq(row_now + whole),
            ]
        # The memory is all over the chip, so what is written goes there from registers.
        came, ends, data = Signal(), Signal(), Signal(32, reset_less=True)
        word = Signal(32 * count, reset_less=True)  # what has come of it, the latest on top
        m.d.sync += [came.eq(write), network.program_write.eq(came & ends)]
        with m.If(write):
            m.d.sync += [network.program_address.eq(row_now), ends.eq(whole), data.eq(access.data)]
        with m.If(came):
            m.d.sync += word.eq(Cat(word, data)[32:])
        m.d.comb += network.program_data.eq(word)
        in_order = first | (access.offset == place)
        return access.to["program"] & access.write & in_order & (access.offset < size)

    def _maps(self, m: Module, network: Any, access: Access, write: Value) -> Value:
        """Reach the map memory; return whether an access is to a word of it."""
        spec = self.spec
        halves = spec.map_pieces - 1  # bits of the place that pick a half
        bits = (BANK_WORDS - 1).bit_length()
        bank, address = access.offset[bits:], access.offset[halves:bits]
        low = Signal(32 * halves, reset_less=True)
        upper = access.offset[0] if halves else C(1)
        with m.If(write):
            m.d.sync += low.eq(access.data)
        m.d.comb += [
            network.map_bank.eq(bank),
            network.map_address.eq(address),
            network.map_write.eq(write & upper),
            network.map_data.eq(Cat(low, access.data)),
        ]
        return access.to["data"] & (bank < BANKS) & (address < spec.map_words)

    def _map_word(self, network: Any, access: Access) -> Value:
        """Return the word that was read."""
        word = network.map_word
        if self.spec.map_pieces == 1:
            return word
        return Mux(access.offset[0], word[32:], word[:32])

    def _run(self, m: Module, registers: RegisterFile, network: Any, abort: Signal) -> None:
        """Connect the registers that show and control a run; `abort` resets the engine."""
        spec = self.spec
        start = Signal()  # behind an abort on the edge before
        faults = register_map().error.fields["code"].encoding
        busy, done = Signal(), Signal()
        m.d.sync += [
            start.eq(registers.control__start),
            busy.eq(network.busy & ~abort & ~registers.control__abort),
        ]
        ended = busy & ~network.busy
        with m.If(registers.control__start | registers.control__abort):
            m.d.sync += done.eq(0)
        with m.Elif(ended):
            m.d.sync += done.eq(1)
        m.d.comb += [
            registers.program_size__words.eq(spec.program_size),
            registers.data_size__words.eq(spec.map_words * spec.map_pieces),
            registers.about_size__bytes.eq(len(spec.description)),
            network.start.eq(start),
            registers.status__busy.eq(start | (network.busy & ~abort)),
            registers.status__done.eq(done),
            registers.status__error.eq(done & network.fault),
            registers.error__code.eq(Mux(done & network.fault, faults["fault"], faults["none"])),
            registers.interrupt_pending__done__set.eq(ended),
            registers.cycles__clocks.eq(network.cycles),
            registers.steps__beats.eq(network.steps),
            registers.waits__clocks.eq(network.waits),
        ]
