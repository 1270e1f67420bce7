"""1BitSquared iCEBreaker: https://docs.icebreaker-fpga.org (pins: amaranth-boards)."""

from mulfree.units.lutna import LutNASpec
from mulfree_boards import devices
from mulfree_boards.board import Board

ICEBREAKER = Board(
    name="icebreaker",
    title="1BitSquared iCEBreaker",
    device=devices.UP5K,
    platform="amaranth_boards.icebreaker:ICEBreakerPlatform",
    oscillator_hz=12_000_000,
    clock_hz=12_000_000,
    core=LutNASpec(outputs=2, lanes=4, tables="block"),
    # There are no LUTs that could be memories: an accumulator's slot is flip-flops.
    memories={
        "program_words": 1024,
        "data_words": 512,
        "acc_slots": 2,
        "scaler_digits": 1,
    },
    loader="ice40_generic",
    reset="button",
)
