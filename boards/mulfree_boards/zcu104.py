"""AMD ZCU104 (Zynq UltraScale+ XCZU7EV), described from AMD's user guide UG1267."""

from mulfree.units.lutna import LutNASpec
from mulfree_boards import devices
from mulfree_boards.board import Board, Zynq
from mulfree_boards.zynq import PSU

ZCU104 = Board(
    name="zcu104",
    title="AMD ZCU104",
    device=devices.XCZU7EV,
    platform="",
    oscillator_hz=33_333_333,
    clock_hz=100_000_000,
    core=LutNASpec(outputs=16, lanes=16),
    memories={"program_words": 8192, "data_words": 4096, "channels": 256, "left_shift": 3},
    loader="zcu104",
    zynq=Zynq(
        part="xczu7ev-ffvc1156-2-e",
        board_part="xilinx.com:zcu104:part0",
        processing_system="zynq_ultra_ps_e",
        base=0xA000_0000,
        ports=PSU,
    ),
)
