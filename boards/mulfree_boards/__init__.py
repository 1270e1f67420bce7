"""Boards, one file each, and what makes, checks and loads their bitstreams."""

from mulfree_boards.arty_z7_20 import ARTY_Z7_20
from mulfree_boards.icebreaker import ICEBREAKER
from mulfree_boards.tang_nano_9k import TANG_NANO_9K
from mulfree_boards.ulx3s import ULX3S_25F, ULX3S_85F
from mulfree_boards.zcu104 import ZCU104

#: Every board by name.
BOARDS = {
    board.name: board
    for board in (ULX3S_85F, ULX3S_25F, ICEBREAKER, TANG_NANO_9K, ARTY_Z7_20, ZCU104)
}
