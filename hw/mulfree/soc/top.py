"""The top: an engine of any kind behind a bus, with its memories."""

from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.hdl import C, Module, Mux, ResetInserter, Signal
from amaranth.lib import memory
from amaranth.lib.wiring import In, Out

from mulfree.engine.dense import DenseSpec
from mulfree.soc.bus import RegisterFile
from mulfree.soc.program import Target
from mulfree.soc.registers import register_map
from mulfree.soc.sequencer import Sequencer
from mulfree.soc.system import Access, Reply, System, SystemSpec, target_of
from mulfree.spec import SpecError, choice, integer
from mulfree.units.core import CoreSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec


@dataclass(frozen=True, kw_only=True)
class SocSpec(SystemSpec):
    """A whole system: engine, memories and registers behind a UART, Wishbone or AXI4-Lite."""

    unit: ClassVar[str] = "soc"

    acc_bits: int = integer(32, 4, 32, "width of an accumulator, two's complement")
    acc_slots: int = integer(16, 1, 1024, "images of a batch")
    channels: int = integer(64, 1, 4096, "output channels of the widest layer")
    left_shift: int = integer(0, 0, 30, "largest left shift, for factors of 1 and more")
    rounding: str = choice(
        "single", ("single", "double"), "roundings on the way, as TFLite's builds"
    )
    scaler_digits: int = integer(2, 1, 16, "two-bit digits that the requantizer sums in one clock")
    program_words: int = integer(2048, 64, 65536, "program memory, words of 32 bits")
    data_words: int = integer(1024, 16, 65536, "data memory, words of 32 bits")

    def check(self) -> None:
        """Check what memories of bytes and words ask of the engine."""
        core = self.core
        rules = {
            f"weights must be loadable, not {core.weights}": core.loadable,
            f"lanes must be a multiple of 4, not {core.lanes}": core.lanes % 4 == 0,
            f"act_bits must be at most 8, not {core.act_bits}": core.act_bits <= 8,
            f"a weight's code must have at most 8 bits, not {core.weight_shape.width}": (
                core.weight_shape.width <= 8
            ),
        }
        for sentence, holds in rules.items():
            if not holds:
                raise SpecError(sentence)
        _ = self.dense

    @property
    def dense(self) -> DenseSpec:
        """The engine."""
        return DenseSpec(
            core=self.core,
            acc_bits=self.acc_bits,
            acc_slots=self.acc_slots,
            channels=self.channels,
            out_bits=self.core.act_bits,
            out_signed=self.core.act_signed,
            left_shift=self.left_shift,
            rounding=self.rounding,
            scaler_digits=self.scaler_digits,
        )

    @property
    def target(self) -> Target:
        """What the registers `engine`, `shape` and `limits` read."""
        return target_of(
            self.core,
            runs="dense",
            acc_bits=self.acc_bits,
            rounding=self.rounding,
            slots=self.acc_slots,
            channels=self.channels,
            left_shift=self.left_shift,
        )

    @classmethod
    def for_target(cls, target: Target, **values: Any) -> "SocSpec":
        """Return a system that runs what was laid out for a target.

        Raises
        ------
        SpecError
            The weights are approximate, which says too little of the products.
        """
        coding = register_map().engine.fields["coding"].encoding
        shape: dict[str, Any] = {
            "outputs": target.outputs,
            "lanes": target.lanes,
            "act_bits": target.act_bits,
            "act_signed": bool(target.act_signed),
            "weight_bits": target.weight_bits,
        }
        if target.coding == coding["approximate"]:
            raise SpecError("weights must be exact to be run without a board, not approximate")
        core: CoreSpec
        if target.coding == coding["integer"]:
            core = LutNASpec(**shape)
        else:
            core = PoTSpec(**shape, terms=1 + (target.coding == coding["two_powers"]))
        return cls(
            core=core,
            acc_bits=target.acc_bits,
            acc_slots=target.slots,
            channels=target.channels,
            left_shift=target.left_shift,
            rounding="double" if target.double_rounding else "single",
            **values,
        )

    @property
    def streams(self) -> bool:
        """Whether there are AXI-Streams for data."""
        return self.bridge == "axilite"

    def component(self) -> "Soc":
        """Build the top."""
        return Soc(self)


class Soc(System):
    """Program memory and data memory on a bus; a sequencer that runs the dense engine on them.

    Members
    -------
    s_axis_…, m_axis_… : AXI4-Lite only
        AXI-Streams of words: inputs and outputs of a run started with `control.streams`.
    """

    port_help = {
        **System.port_help,
        **{f"s_axis_{n}": "inputs as AXI-Stream" for n in ("tdata", "tvalid", "tready", "tlast")},
        **{f"m_axis_{n}": "outputs as AXI-Stream" for n in ("tdata", "tvalid", "tready", "tlast")},
    }

    def __init__(self, spec: SocSpec) -> None:
        ports: dict[str, Any] = {}
        if spec.streams:
            ports = {
                "s_axis_tdata": In(32),
                "s_axis_tvalid": In(1),
                "s_axis_tready": Out(1),
                "s_axis_tlast": In(1),
                "m_axis_tdata": Out(32),
                "m_axis_tvalid": Out(1),
                "m_axis_tready": In(1),
                "m_axis_tlast": Out(1),
            }
        super().__init__(spec, **ports)
        self.spec = spec

    def engine(self, m: Module, registers: RegisterFile, access: Access) -> Reply:
        """Connect memories and sequencer."""
        spec = self.spec
        sequencer = Sequencer(spec.dense, spec.target, spec.program_words, spec.data_words)
        m.submodules.sequencer = ResetInserter(registers.control__abort)(sequencer)
        m.submodules.program_memory = program = memory.Memory(
            shape=32, depth=spec.program_words, init=[]
        )
        m.submodules.data_memory = data = memory.Memory(shape=32, depth=spec.data_words, init=[])
        # A write through the bus may leave bytes out.
        program_read, program_write = program.read_port(), program.write_port(granularity=8)
        data_read, data_write = data.read_port(), data.write_port(granularity=8)

        offset, free = access.offset, ~sequencer.busy
        to_program, to_data, from_program = Signal(), Signal(), Signal()
        m.d.comb += [
            to_program.eq(access.to["program"] & free & (offset < spec.program_words)),
            to_data.eq(access.to["data"] & free & (offset < spec.data_words)),
        ]
        m.d.sync += from_program.eq(to_program)
        write = access.request & access.write
        m.d.comb += [
            program_read.addr.eq(Mux(sequencer.busy, sequencer.program_addr, offset)),
            program_read.en.eq(Mux(sequencer.busy, sequencer.program_en, 1)),
            program_write.addr.eq(offset),
            program_write.data.eq(access.data),
            program_write.en.eq(Mux(write & to_program, access.sel, 0)),
            sequencer.program_data.eq(program_read.data),
            data_read.addr.eq(Mux(sequencer.busy, sequencer.data_addr, offset)),
            data_read.en.eq(Mux(sequencer.busy, sequencer.data_en, 1)),
            data_write.addr.eq(Mux(sequencer.busy, sequencer.store_addr, offset)),
            data_write.data.eq(Mux(sequencer.busy, sequencer.store_data, access.data)),
            data_write.en.eq(
                Mux(sequencer.busy, sequencer.store_en, Mux(write & to_data, access.sel, 0))
            ),
            sequencer.data_data.eq(data_read.data),
        ]
        self._connect_registers(m, registers, sequencer)
        word = Mux(from_program, program_read.data, data_read.data)
        return Reply(known=to_program | to_data, ready=C(1), word=word)

    def _connect_registers(self, m: Module, registers: RegisterFile, sequencer: Sequencer) -> None:
        """Connect the registers that show and control a run."""
        spec = self.spec
        failed = sequencer.error != 0
        m.d.comb += [
            registers.program_size__words.eq(spec.program_words),
            registers.data_size__words.eq(spec.data_words),
            sequencer.start.eq(registers.control__start),
            sequencer.images.eq(registers.images__count),
            registers.status__busy.eq(sequencer.busy),
            registers.status__done.eq(sequencer.done),
            registers.status__error.eq(failed),
            registers.error__code.eq(sequencer.error),
            registers.interrupt_pending__done__set.eq(sequencer.ended),
            registers.cycles__clocks.eq(sequencer.cycles),
            registers.program_crc__crc.eq(sequencer.program_crc),
            registers.input_crc__crc.eq(sequencer.input_crc),
            registers.output_crc__crc.eq(sequencer.output_crc),
        ]
        if spec.streams:
            m.d.comb += [
                sequencer.streams.eq(registers.control__streams),
                sequencer.input.payload.eq(self.s_axis_tdata),
                sequencer.input.valid.eq(self.s_axis_tvalid),
                self.s_axis_tready.eq(sequencer.input.ready),
                self.m_axis_tdata.eq(sequencer.output.payload),
                self.m_axis_tvalid.eq(sequencer.output.valid),
                sequencer.output.ready.eq(self.m_axis_tready),
                self.m_axis_tlast.eq(sequencer.output_last),
            ]
