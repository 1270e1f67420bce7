"""What goes into the chip: pins, clock, reset, and the system."""

from math import ceil
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from mulfree.soc.riscv import RiscvSpec
from mulfree.soc.system import SystemSpec
from mulfree_boards.board import Board
from mulfree_boards.pll import Pll

#: The reset lasts so long after configuration: iCE40's block RAMs read as zero for the first 3 µs.
START_SECONDS = 15e-6


class Clocking(Elaboratable):
    """Drives the domain `sync`: through a PLL where one is given, with a reset that ends later.

    The reset begins with the button or the loss of the PLL's lock, whatever the clock does, and
    ends with a clock edge.
    """

    def __init__(self, board: Board, pll: Pll | None) -> None:
        self._board = board
        self._pll = pll

    def elaborate(self, platform: Any) -> Module:
        """Connect pin, PLL and counter."""
        m = Module()
        board = self._board
        pin = platform.request(platform.default_clk, dir="-")
        clock, locked, pressed = Signal(), Signal(), Signal()
        if self._pll is not None and board.device.technology == "ice40":
            source = pin.io  # this PLL sits in the pin
        else:
            m.submodules.clock_pin = buffer = io.Buffer("i", pin)
            source = buffer.i
        if self._pll is None:
            m.d.comb += [clock.eq(source), locked.eq(1)]
        else:
            m.submodules.pll = self._pll.instance(board.device.technology, source, clock, locked)
        if board.reset is not None:
            button = platform.request(board.reset, 0, dir="-")
            m.submodules.reset_pin = reset_pin = io.Buffer("i", button)
            m.d.comb += pressed.eq(reset_pin.i)

        m.domains.start = ClockDomain("start", local=True)
        hz = board.oscillator_hz if self._pll is None else self._pll.hz
        left = Signal(range(ceil(hz * START_SECONDS) + 1))
        ready = Signal()
        m.d.comb += [ClockSignal("start").eq(clock), ClockSignal("sync").eq(clock)]
        m.submodules.synchroniser = ResetSynchronizer(~locked | pressed, domain="start")
        # It counts up, as flip-flops begin at zero on every chip.
        with m.If(left == ceil(hz * START_SECONDS)):
            m.d.start += ready.eq(1)
        with m.Else():
            m.d.start += left.eq(left + 1)
        m.d.comb += ResetSignal("sync").eq(~ready)
        return m


class BoardTop(Elaboratable):
    """A system, or one with a soft core beside it, with its UART on the board's pins."""

    def __init__(self, board: Board, spec: SystemSpec | RiscvSpec, pll: Pll | None) -> None:
        self._board = board
        self._spec = spec
        self._pll = pll

    def elaborate(self, platform: Any) -> Module:
        """Connect clock, system and pins."""
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.clocking = Clocking(self._board, self._pll)
        m.submodules.soc = soc = self._spec.component()
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [soc.uart_rx.eq(rx.i), tx.o.eq(soc.uart_tx)]
        return m
