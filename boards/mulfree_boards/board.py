"""What a board is: its chip, its clock, and the system that it carries unless asked otherwise."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mulfree.soc.top import SocSpec
from mulfree.spec import SpecError
from mulfree.units.core import CoreSpec

BAUD = 115200


@dataclass(frozen=True)
class Device:
    """A chip and what it has.

    Parameters
    ----------
    technology
        The family, as `mulfree evaluate --target` calls it.
    luts, ff, ram, dsp
        LUT sites, flip-flops, block RAMs in the family's smallest block, DSP blocks.
    ram_bits
        Bits of one such block, parity left out.
    """

    name: str
    technology: str
    luts: int
    ff: int
    ram: int
    ram_bits: int
    dsp: int


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board as data.

    Parameters
    ----------
    platform
        "module:class" of the Amaranth platform with its pins; empty where the processor has them
        all.
    oscillator_hz
        The clock on the FPGA's pin; on a Zynq, where the system's clock comes from the processing
        system, the reference that it is made from.
    clock_hz
        The system's clock unless `--freq` says otherwise.
    loader
        What openFPGALoader calls the board.
    reset
        Resource that resets the system; None where there is no button for it.
    memories
        Further parameters of the system.
    zynq
        What Vivado has to know; None where there is no processor.
    """

    name: str
    title: str
    device: Device
    platform: str
    oscillator_hz: int
    clock_hz: int
    core: CoreSpec
    memories: Mapping[str, Any]
    loader: str
    reset: str | None = None
    zynq: "Zynq | None" = None

    @property
    def bridge(self) -> str:
        """What the outside speaks."""
        return "axilite" if self.zynq else "uart"

    @cached_property
    def system(self) -> SocSpec:
        """The system that the board carries unless something else is asked for."""
        return SocSpec(
            core=self.core, bridge=self.bridge, **self.memories, **self.uart(self.clock_hz)
        )

    def uart(self, clock_hz: int, baud: int = BAUD) -> dict[str, int]:
        """Return the UART's parameters: 0.1 s of silence ends a command, as with LiteX.

        Raises
        ------
        SpecError
            The clock is too slow for the line, or so fast that no counter holds a bit.
        """
        if self.zynq:
            return {}
        if baud < 300:
            raise SpecError(f"baud must be at least 300, not {baud}")
        bit_clocks = round(clock_hz / baud)
        if bit_clocks < 4:
            raise SpecError(f"baud must be at most freq / 4 ({clock_hz // 4}), not {baud}")
        if abs(clock_hz / bit_clocks / baud - 1) > 0.02:
            raise SpecError(f"baud must divide freq to within 2 %, not {baud} at {clock_hz} Hz")
        timeout = min(30, max(8, (clock_hz // 10).bit_length()))
        return {"bit_clocks": bit_clocks, "timeout_bits": timeout}

    def load_platform(self) -> Any:
        """Return the Amaranth platform.

        Raises
        ------
        ModuleNotFoundError
            amaranth-boards is not installed.
        """
        module, name = self.platform.split(":")
        return getattr(importlib.import_module(module), name)()


@dataclass(frozen=True, kw_only=True)
class Zynq:
    """What Vivado has to know of a board with a processing system.

    Parameters
    ----------
    part
        The chip's full name.
    board_part
        Vivado's name of the board, without its version; its files set DDR and pins of the
        processing system.
    processing_system
        Vivado's IP: `processing_system7` or `zynq_ultra_ps_e`.
    base
        Address of the system in the processors' memory map.
    """

    part: str
    board_part: str
    processing_system: str
    base: int
    ports: "ZynqPorts" = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ZynqPorts:
    """How the processing system calls the pins that we connect, and the parameters that make them.

    `settings` has the placeholders ``{mhz}`` for the clock.
    """

    rule: str
    master: str
    master_clock: str
    clock: str
    reset: str
    interrupt: str
    settings: Mapping[str, str]
