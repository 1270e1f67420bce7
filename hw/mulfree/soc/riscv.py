"""A soft core beside the engine: PicoRV32, a memory with its program, the engine, and a console.

The core is the Verilog of the package ``pythondata-cpu-picorv32``, configured without multiplier
and divider. What it runs is no part of the hardware's text: the memory reads it from
`FIRMWARE` when a simulation starts or a bitstream is made.

========== ======================================================================================
address    what is there
========== ======================================================================================
0x00000000 memory: program, data and stack; the core starts at its beginning
0x10000000 the engine: registers and memories as of `registers.rdl`
0x20000000 console. Writing sends the low byte, and takes as long as the line does; reading takes
           the byte that came in last, or all ones where none has come
========== ======================================================================================

Anything else reads as all ones, and so does what the engine refuses.
"""

import importlib.util
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import ClassVar

from amaranth.build import Platform
from amaranth.hdl import C, ClockSignal, Instance, Module, Mux, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mulfree.soc.top import SocSpec
from mulfree.soc.uart import Receiver, Transmitter
from mulfree.spec import Spec, SpecError, integer, nested

ENGINE_BASE = 0x1000_0000
CONSOLE_BASE = 0x2000_0000

#: The file that the memory is filled from: words in hexadecimal, one a line.
FIRMWARE = "mulfree_firmware.hex"


@dataclass(frozen=True, kw_only=True)
class RiscvSpec(Spec):
    """A RISC-V core with memory and console, and a system on its bus."""

    unit: ClassVar[str] = "riscv"

    soc: SocSpec = nested(("soc",), "the engine with its memories; its bridge is wishbone")
    ram_words: int = integer(12288, 1024, 1 << 20, "memory of the core, words of 32 bits")

    def check(self) -> None:
        """Check that the core can reach the engine."""
        if self.soc.bridge != "wishbone":
            raise SpecError(f"bridge must be wishbone beside a core, not {self.soc.bridge}")

    def component(self) -> "Riscv":
        """Build the system."""
        return Riscv(self)


def beside(soc: SocSpec, ram_words: int | None = None) -> RiscvSpec:
    """Return a system with a core beside a board's engine.

    Raises
    ------
    SpecError
        The memory has a size that is not allowed.
    """
    soc = replace(soc, bridge="wishbone")
    return RiscvSpec(soc=soc) if ram_words is None else RiscvSpec(soc=soc, ram_words=ram_words)


def sources() -> dict[str, str]:
    """Return the Verilog files that go with a system's own, by name.

    Raises
    ------
    SpecError
        The package with the core is not installed.
    """
    package = importlib.util.find_spec("pythondata_cpu_picorv32")
    if package is None or package.origin is None:
        raise SpecError("the RISC-V core must be installed: `pip install pythondata-cpu-picorv32`")
    core = Path(package.origin).parent / "verilog" / "picorv32.v"
    memory = resources.files("mulfree.soc").joinpath("riscv_memory.v")
    return {"picorv32.v": core.read_text(), "riscv_memory.v": memory.read_text()}


class Riscv(wiring.Component):
    """The core, its memory, a console, and the engine.

    Needs the modules of `sources` beside its Verilog, which a board's build gets by itself, and the
    file `FIRMWARE`, which it does not.

    Members
    -------
    uart_rx, uart_tx
        The console.
    trap : Out(1)
        The core has stopped: an illegal instruction or a misaligned access.
    """

    uart_rx: In(1, init=1)
    uart_tx: Out(1, init=1)
    trap: Out(1)

    port_help = {
        "uart_rx": "console from the host",
        "uart_tx": "console to the host",
        "trap": "the core has stopped",
    }

    def __init__(self, spec: RiscvSpec) -> None:
        super().__init__()
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Connect the core's memory port to what lies at the address."""
        m = Module()
        spec = self.spec
        if isinstance(platform, Platform):
            for name, text in sources().items():
                platform.add_file(name, text)
        valid, ready = Signal(), Signal()
        address, written, read = Signal(32), Signal(32), Signal(32)
        strobes = Signal(4)
        m.submodules.core = Instance(
            "picorv32",
            # Shifts in one clock: CRCs are made of them.
            p_BARREL_SHIFTER=C(1, 1), p_ENABLE_COUNTERS64=C(0, 1),
            i_clk=ClockSignal(), i_resetn=~ResetSignal(), o_trap=self.trap,
            o_mem_valid=valid, i_mem_ready=ready, o_mem_addr=address, o_mem_wdata=written,
            o_mem_wstrb=strobes, i_mem_rdata=read,
            i_pcpi_wr=C(0, 1), i_pcpi_rd=C(0, 32), i_pcpi_wait=C(0, 1), i_pcpi_ready=C(0, 1),
            i_irq=C(0, 32),
        )  # fmt: skip
        write = strobes.any()

        to_memory, to_engine, to_console = Signal(), Signal(), Signal()
        m.d.comb += [
            to_memory.eq(valid & (address < 4 * spec.ram_words)),
            to_engine.eq(valid & (address[28:] == ENGINE_BASE >> 28)),
            to_console.eq(valid & (address[28:] == CONSOLE_BASE >> 28)),
        ]
        # The memory's word is there one clock after its address; what nothing answers ends then.
        answered, from_memory, in_time = Signal(), Signal(32), Signal()
        m.d.comb += in_time.eq(valid & ~to_engine & ~to_console & ~answered)
        m.d.sync += answered.eq(in_time)
        m.submodules.memory = Instance(
            "mulfree_riscv_memory",
            p_WORDS=spec.ram_words, p_FILE=FIRMWARE,
            i_clk=ClockSignal(), i_address=address[2:], i_enable=to_memory & in_time,
            i_write=strobes, i_written=written, o_read=from_memory,
        )  # fmt: skip

        m.submodules.soc = soc = spec.soc.component()
        bus = soc.bus
        m.d.comb += [
            bus.cyc.eq(to_engine),
            bus.stb.eq(to_engine),
            bus.we.eq(write),
            bus.sel.eq(Mux(write, strobes, 0xF)),
            bus.dat_w.eq(written),
            # Beyond the engine's own addresses there is none that it knows.
            bus.adr.eq(Mux(address[2 + len(bus.adr) : 28].any(), ~0, address[2:])),
        ]

        m.submodules.transmitter = transmitter = Transmitter(spec.soc.bit_clocks)
        m.submodules.receiver = receiver = Receiver(spec.soc.bit_clocks)
        byte, came = Signal(8), Signal()
        m.d.comb += [
            receiver.rx.eq(self.uart_rx),
            self.uart_tx.eq(transmitter.tx),
            transmitter.bytes.payload.eq(written),
            transmitter.bytes.valid.eq(to_console & write),
        ]
        with m.If(to_console & ~write):
            m.d.sync += came.eq(0)
        with m.If(receiver.valid):
            m.d.sync += [byte.eq(receiver.byte), came.eq(1)]

        m.d.comb += read.eq(~0)
        with m.If(to_memory):
            m.d.comb += [ready.eq(answered), read.eq(from_memory)]
        with m.Elif(to_engine):
            m.d.comb += ready.eq(bus.ack | bus.err)
            with m.If(bus.ack):
                m.d.comb += read.eq(bus.dat_r)
        with m.Elif(to_console):
            m.d.comb += ready.eq(~write | transmitter.bytes.ready)
            with m.If(came):
                m.d.comb += read.eq(byte)
        with m.Else():
            m.d.comb += ready.eq(answered)
        return m
