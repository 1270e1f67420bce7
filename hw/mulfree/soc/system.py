"""What every system has: a bridge to the outside, the registers, and memories behind windows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from mulfree.catalog import KINDS
from mulfree.soc.axi import AxiLite, AxiLiteBridge
from mulfree.soc.bus import Bus, BusStage, RegisterFile
from mulfree.soc.program import Target
from mulfree.soc.registers import register_map
from mulfree.soc.uart import UartBone
from mulfree.spec import Spec, choice, integer, nested
from mulfree.units.core import CoreSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec

BRIDGES = ("uart", "wishbone", "axilite")
#: Width of a word's number in a window.
OFFSET_BITS = (register_map().program.words - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class SystemSpec(Spec):
    """What is outside of any engine."""

    core: CoreSpec = nested(KINDS, "what the products are made of")
    bridge: str = choice("uart", BRIDGES, "what the outside speaks")
    bit_clocks: int = integer(217, 4, 65536, "clocks of a bit on the UART")
    timeout_bits: int = integer(21, 8, 30, "the UART forgets a command after 2^n silent clocks")

    @property
    def target(self) -> Target:
        """What the registers `engine`, `shape` and `limits` read."""
        raise NotImplementedError


def target_of(
    core: CoreSpec, *, runs: str, acc_bits: int, rounding: str, slots: int, channels: int,
    left_shift: int,
) -> Target:  # fmt: skip
    """Return what the registers `engine`, `shape` and `limits` read with an engine.

    Parameters
    ----------
    runs
        What its programs are: `dense` or `network`.
    slots
        Images of a batch.
    """
    m = register_map()
    of = {name: field.encoding for name, field in m.engine.fields.items()}
    match core:
        case PoTSpec():
            how = "power_of_two" if core.terms == 1 else "two_powers"
        case LutNASpec() if core.drop_digits:
            how = "approximate"
        case _:
            how = "integer"
    return Target(
        engine=m.engine.pack(
            kind=of["kind"][core.unit],
            act_bits=core.act_bits,
            act_signed=int(core.act_signed),
            coding=of["coding"][how],
            weight_bits=core.weight_bits,
            acc_bits=acc_bits,
            double_rounding=int(rounding == "double"),
            runs=of["runs"][runs],
        ),
        shape=m.shape.pack(outputs=core.outputs, lanes=core.lanes),
        limits=m.limits.pack(slots=slots, channels=channels, left_shift=left_shift),
    )


@dataclass(frozen=True)
class Access:
    """An access to the bus, as memories see it.

    Members
    -------
    request
        It waits for an answer; it holds until then. All the others hold since the clock before.
    write, data, sel
        As of the bus.
    to
        Whether it is to the window of this name.
    offset
        The word's number in the window.
    """

    request: Value
    write: Value
    data: Value
    sel: Value
    to: Mapping[str, Value]
    offset: Value


@dataclass(frozen=True)
class Reply:
    """What the memories say to an access.

    Members
    -------
    known
        There is something at this place; else the access ends as an error at once.
    ready
        It ends on the next edge.
    word
        What was read, from that edge on.
    """

    known: Value
    ready: Value
    word: Value


class System(wiring.Component):
    """Registers and windows on a bus; the engine and its memories are a subclass's own.

    Members
    -------
    interrupt : Out(1)
        A pending interrupt is enabled.
    uart_rx, uart_tx : UART only
    bus : In(Bus()), Wishbone only
        Wishbone B4 classic, 32 bits, word addresses.
    s_axi_… : AXI4-Lite only
    """

    port_help = {
        "interrupt": "a pending interrupt is enabled",
        "uart_rx": "from the host, idle 1",
        "uart_tx": "to the host, idle 1",
        "bus": "Wishbone B4 classic slave, 32 bits, word addresses",
        **{f"s_axi_{name}": "AXI4-Lite, byte addresses" for name in AxiLite().members},
    }

    def __init__(self, spec: SystemSpec, **ports: Any) -> None:
        own: dict[str, Any] = {"interrupt": Out(1)}
        match spec.bridge:
            case "uart":
                own |= {"uart_rx": In(1, init=1), "uart_tx": Out(1, init=1)}
            case "wishbone":
                own |= {"bus": In(Bus())}
            case "axilite":
                # As bus tools look for them.
                own |= {f"s_axi_{n}": member.flip() for n, member in AxiLite().members.items()}
        super().__init__(own | ports)
        self.spec = spec

    def engine(self, m: Module, registers: RegisterFile, access: Access) -> Reply:
        """Build the engine with its memories; connect the registers that show and control it."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Module:
        """Connect bridge, registers and memories."""
        m = Module()
        m.submodules.registers = registers = RegisterFile()
        m.submodules.stage = stage = BusStage()
        connect(m, self._bridge(m), stage.near)
        bus = stage.far
        request, known, from_memory = Signal(), Signal(), Signal()
        to_registers = Signal()
        window = bus.adr[OFFSET_BITS:]
        access = Access(
            request=request,
            write=bus.we,
            data=bus.dat_w,
            sel=bus.sel,
            to={
                n: window == w.offset // 4 >> OFFSET_BITS for n, w in register_map().windows.items()
            },
            offset=bus.adr[:OFFSET_BITS],
        )
        reply = self.engine(m, registers, access)
        number = len(registers.word)
        value = Signal(32)
        m.d.comb += [
            request.eq(bus.cyc & bus.stb & ~bus.ack & ~bus.err),
            to_registers.eq(window == 0),
            known.eq(
                (to_registers & registers.known & (bus.adr[number:OFFSET_BITS] == 0)) | reply.known
            ),
            registers.word.eq(bus.adr),
            registers.data.eq(bus.dat_w),
            registers.write.eq(request & known & to_registers & bus.we),
            registers.status__bus_error__set.eq(request & ~known),
            bus.dat_r.eq(Mux(from_memory, reply.word, value)),
        ]
        m.d.sync += [
            bus.ack.eq(request & known & (to_registers | reply.ready)),
            bus.err.eq(request & ~known),
            value.eq(registers.read),
            from_memory.eq(~to_registers),
        ]
        self._describe(m, registers)
        return m

    def _bridge(self, m: Module) -> Any:
        """Return the master's side of the bus inside."""
        spec = self.spec
        match spec.bridge:
            case "uart":
                m.submodules.bridge = bridge = UartBone(spec.bit_clocks, spec.timeout_bits)
                m.d.comb += [bridge.rx.eq(self.uart_rx), self.uart_tx.eq(bridge.tx)]
                return bridge.bus
            case "wishbone":
                return flipped(self.bus)
            case "axilite":
                m.submodules.bridge = bridge = AxiLiteBridge()
                for name, member in AxiLite().members.items():
                    outside, inside = getattr(self, f"s_axi_{name}"), getattr(bridge.axi, name)
                    to, of = (inside, outside) if member.flow == Out else (outside, inside)
                    m.d.comb += to.eq(of)
                return bridge.bus

    def _describe(self, m: Module, registers: RegisterFile) -> None:
        """Connect what says what the engine is, and the interrupt."""
        described, target = register_map(), self.spec.target
        for register, word in (
            (described.engine, target.engine),
            (described.shape, target.shape),
            (described.limits, target.limits),
        ):
            for name, field in register.fields.items():
                m.d.comb += getattr(registers, f"{register.name}__{name}").eq(field.of(word))
        m.d.comb += self.interrupt.eq(
            registers.interrupt_pending__done & registers.interrupt_enable__done
        )
