"""Sipeed Tang Nano 9K: https://wiki.sipeed.com/hardware/en/tang/ (pins: amaranth-boards)."""

from mulfree.units.lutna import LutNASpec
from mulfree_boards import devices
from mulfree_boards.board import Board

TANG_NANO_9K = Board(
    name="tang-nano-9k",
    title="Sipeed Tang Nano 9K",
    device=devices.GW1NR_9C,
    platform="amaranth_boards.tang_nano_9k:TangNano9kPlatform",
    oscillator_hz=27_000_000,
    clock_hz=27_000_000,
    core=LutNASpec(outputs=4, lanes=4),
    memories={"program_words": 4096, "data_words": 1024},
    loader="tangnano9k",
    # The buttons are on a bank of 1.8 V; power and the host reset the board.
    reset=None,
)
