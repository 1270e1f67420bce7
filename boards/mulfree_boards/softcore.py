"""A soft core beside the engine: its memory is in the bitstream, with the program in it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mulfree.soc import riscv
from mulfree.soc.riscv import RiscvSpec
from mulfree.soc.system import SystemSpec
from mulfree.soc.top import SocSpec
from mulfree.spec import SpecError
from mulfree_boards.board import Board


@dataclass(frozen=True)
class SoftCore:
    """What is beside the engine.

    Parameters
    ----------
    spec
        Core, memory and engine.
    words
        What is in the memory when the bitstream is loaded: words in hexadecimal, one a line.
    """

    spec: RiscvSpec
    words: str

    @property
    def files(self) -> Mapping[str, str]:
        """What synthesis reads besides the design itself."""
        return {**riscv.sources(), riscv.FIRMWARE: self.words}


def beside(board: Board, soc: SystemSpec, firmware: Path, ram_words: int | None = None) -> SoftCore:
    """Return a core with firmware, as `mulfree firmware` writes it, beside a board's engine.

    Raises
    ------
    SpecError
        The board has a processor, the engine is one for networks, the file is none of firmware, or
        the memory does not hold it.
    """
    if not isinstance(soc, SocSpec):
        raise SpecError(f"firmware must be beside an engine of dense layers, not {soc.unit}")
    if board.zynq:
        raise SpecError(f"firmware must be loaded into {board.name}'s own processor")
    try:
        text = firmware.read_text(errors="replace")
    except OSError as error:
        raise SpecError(f"firmware {firmware} cannot be read: {error.strerror}") from None
    words = text.split()
    if not words or not all(re.fullmatch("[0-9a-fA-F]{8}", word) for word in words):
        raise SpecError(f"firmware must be words in hexadecimal, which {firmware} has not")
    spec = riscv.beside(soc, ram_words)
    if len(words) > spec.ram_words:
        raise SpecError(f"ram_words must be at least the firmware's {len(words)}, "
                        f"not {spec.ram_words}")  # fmt: skip
    return SoftCore(spec, "".join(f"{word}\n" for word in words))
