"""ULX3S with an LFE5U-85F or an LFE5U-25F: https://radiona.org/ulx3s/ (pins: amaranth-boards)."""

from mulfree.units.lutna import LutNASpec
from mulfree_boards import devices
from mulfree_boards.board import Board

# Left shifts occur in few networks, but cost little.
_MEMORIES = {"program_words": 8192, "data_words": 4096, "channels": 256, "left_shift": 3}

ULX3S_85F = Board(
    name="ulx3s-85f",
    title="Radiona ULX3S",
    device=devices.ECP5_85,
    platform="amaranth_boards.ulx3s:ULX3S_85F_Platform",
    oscillator_hz=25_000_000,
    clock_hz=25_000_000,
    core=LutNASpec(outputs=16, lanes=16),
    memories=_MEMORIES,
    loader="ulx3s",
    reset="button_fire",
)
ULX3S_25F = Board(
    name="ulx3s-25f",
    title="Radiona ULX3S",
    device=devices.ECP5_25,
    platform="amaranth_boards.ulx3s:ULX3S_25F_Platform",
    oscillator_hz=25_000_000,
    clock_hz=25_000_000,
    core=LutNASpec(outputs=8, lanes=16),
    memories=_MEMORIES,
    loader="ulx3s",
    reset="button_fire",
)
