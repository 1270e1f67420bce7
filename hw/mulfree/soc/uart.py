"""UART: bytes on two wires, and LiteX's `uartbone` commands that turn them into bus accesses.

A command: a byte 1 (write) or 2 (read), or 3 and 4 for the same without counting addresses up; a
byte with the number of words, 0 for 256; the word address, 4 bytes; for a write, the words. The
answer of a read is the words. Everything most significant byte first (LiteX,
``litex/soc/cores/uart.py``, ``Stream2Wishbone``).

Nothing in the format marks the start of a command. Two rules bring a line in step again: a command
whose bytes stop coming is forgotten, and bytes that start no command are skipped one by one, so
that `RESYNC_BYTES` zero bytes bring any receiver to the start of a command.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from mulfree.soc.bus import Bus

#: The longest command: command, length, address, 256 words.
RESYNC_BYTES = 1 + 1 + 4 + 4 * 256


class Receiver(wiring.Component):
    """Bytes from a wire: a start bit, 8 data bits, the lowest first, a stop bit.

    Members
    -------
    rx : In(1)
    byte, valid : Out
        A byte, for one clock; without its stop bit it is dropped.
    """

    rx: In(1)
    byte: Out(8)
    valid: Out(1)

    def __init__(self, bit_clocks: int) -> None:
        self._bit_clocks = bit_clocks
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        """Sample every bit in its middle."""
        m = Module()
        rx = Signal(init=1)
        m.submodules.sync = FFSynchronizer(self.rx, rx, init=1)
        timer = Signal(range(2 * self._bit_clocks))
        index = Signal(range(10))
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.FSM():
            with m.State("idle"), m.If(~rx):
                m.d.sync += [timer.eq(self._bit_clocks // 2 - 1), index.eq(0)]
                m.next = "bits"
            with m.State("bits"), m.If(timer == 0):
                m.d.sync += [timer.eq(self._bit_clocks - 1), index.eq(index + 1)]
                with m.If((index == 0) & rx):  # no start bit: a glitch
                    m.next = "idle"
                with m.Elif(index == 9):
                    m.d.comb += self.valid.eq(rx)
                    m.next = "stop"
                with m.Else():
                    m.d.sync += self.byte.eq(Cat(self.byte[1:], rx))
            with m.State("stop"), m.If(rx):
                m.next = "idle"
        return m


class Transmitter(wiring.Component):
    """Bytes to a wire."""

    tx: Out(1, init=1)
    bytes: In(stream.Signature(8))

    def __init__(self, bit_clocks: int) -> None:
        self._bit_clocks = bit_clocks
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        """Shift start bit, byte and stop bit out."""
        m = Module()
        timer = Signal(range(self._bit_clocks))
        left = Signal(range(11))
        shift = Signal(9, init=0x1FF)
        m.d.comb += self.bytes.ready.eq(left == 0)
        with m.If(left == 0), m.If(self.bytes.valid):
            m.d.sync += [
                self.tx.eq(0),
                shift.eq(Cat(self.bytes.payload, 1)),
                left.eq(10),
                timer.eq(self._bit_clocks - 1),
            ]
        with m.Elif(timer == 0):
            m.d.sync += [
                Cat(self.tx, shift).eq(Cat(shift, 1)),
                left.eq(left - 1),
                timer.eq(self._bit_clocks - 1),
            ]
        with m.Else():
            m.d.sync += timer.eq(timer - 1)
        return m


class UartBone(wiring.Component):
    """Commands on a UART become accesses on a bus.

    A failed access is taken as done, and reads as ``0xFFFFFFFF``; the line has no word for it.
    """

    rx: In(1)
    tx: Out(1, init=1)
    bus: Out(Bus())

    def __init__(self, bit_clocks: int, timeout_bits: int) -> None:
        self._bit_clocks = bit_clocks
        self._timeout_bits = timeout_bits
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        """Build the receiver, the transmitter and the parser between them."""
        m = Module()
        m.submodules.receiver = receiver = Receiver(self._bit_clocks)
        m.submodules.transmitter = transmitter = Transmitter(self._bit_clocks)
        bus = self.bus
        is_read, counts_up = Signal(), Signal()
        left = Signal(8)  # words still to come; 0 stands for 256 at first
        address, word = Signal(32), Signal(32)
        index = Signal(2)
        silence = Signal(self._timeout_bits + 1)
        got = receiver.valid
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            bus.adr.eq(address),
            bus.dat_w.eq(word),
            bus.sel.eq(0xF),
        ]
        m.d.sync += silence.eq(Mux(got, 0, silence + 1))
        dead = silence[-1]
        #: What lies beyond the bus's own addresses is answered here.
        beyond = address[len(bus.adr) :].any()
        over = Signal()
        m.d.comb += over.eq(bus.ack | bus.err)
        with m.FSM():
            with m.State("command"), m.If(got):
                value = receiver.byte
                m.d.sync += [
                    is_read.eq((value == 2) | (value == 4)),
                    counts_up.eq(value <= 2),
                    index.eq(0),
                ]
                with m.If((value >= 1) & (value <= 4)):
                    m.next = "length"
            with m.State("length"):
                with m.If(got):
                    m.d.sync += left.eq(receiver.byte)
                    m.next = "address"
                with m.Elif(dead):
                    m.next = "command"
            with m.State("address"):
                with m.If(got):
                    m.d.sync += [address.eq(Cat(receiver.byte, address)), index.eq(index + 1)]
                    with m.If(index == 3):
                        m.next = "access"
                        with m.If(~is_read):
                            m.next = "data"
                with m.Elif(dead):
                    m.next = "command"
            with m.State("data"):
                with m.If(got):
                    m.d.sync += [word.eq(Cat(receiver.byte, word)), index.eq(index + 1)]
                    with m.If(index == 3):
                        m.next = "access"
                with m.Elif(dead):
                    m.next = "command"
            with m.State("access"):
                m.d.comb += [bus.cyc.eq(1), bus.stb.eq(1), bus.we.eq(~is_read)]
                with m.If(beyond):
                    # An address that no memory has: let the bus refuse it.
                    m.d.comb += bus.adr.eq(~0)
                with m.If(over):
                    m.d.sync += [address.eq(address + counts_up), left.eq(left - 1)]
                    m.next = "command"
                    with m.If(is_read):
                        m.d.sync += word.eq(Mux(bus.err, 0xFFFFFFFF, bus.dat_r))
                        m.next = "send"
                    with m.Elif(left != 1):
                        m.next = "data"
            with m.State("send"):
                m.d.comb += [
                    transmitter.bytes.valid.eq(1),
                    transmitter.bytes.payload.eq(word[24:]),
                ]
                with m.If(transmitter.bytes.ready):
                    m.d.sync += [word.eq(word << 8), index.eq(index + 1)]
                    with m.If(index == 3):
                        m.next = "command"
                        with m.If(left != 0):
                            m.next = "access"
        return m
