"""Digilent Arty Z7-20: https://digilent.com/reference/programmable-logic/arty-z7 (Zynq-7020)."""

from mulfree.units.lutna import LutNASpec
from mulfree_boards import devices
from mulfree_boards.board import Board, Zynq
from mulfree_boards.zynq import PS7

ARTY_Z7_20 = Board(
    name="arty-z7-20",
    title="Digilent Arty Z7-20",
    device=devices.XC7Z020,
    platform="",
    oscillator_hz=50_000_000,
    clock_hz=100_000_000,
    core=LutNASpec(outputs=16, lanes=16),
    memories={"program_words": 8192, "data_words": 4096, "channels": 256, "left_shift": 3},
    loader="arty_z7_20",
    zynq=Zynq(
        part="xc7z020clg400-1",
        board_part="digilentinc.com:arty-z7-20:part0",
        processing_system="processing_system7",
        base=0x43C0_0000,
        ports=PS7,
    ),
)
