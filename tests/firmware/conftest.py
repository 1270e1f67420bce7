"""One virtual board serves every test of this room: compiling it takes longest."""

from collections.abc import Iterator

import pytest

from mulfree.soc.presets import changed, preset
from mulfree.soc.top import SocSpec
from mulfree_sim.virtual_board import VirtualBoard, on_the_line


@pytest.fixture(scope="session")
def system() -> SocSpec:
    """The system of the board: an iCEBreaker's with a larger engine, for programs of every shape."""
    larger = {"outputs": 4, "tables": "distributed", "acc_slots": 16, "scaler_digits": 2}
    return on_the_line(changed(preset("icebreaker"), larger))


@pytest.fixture(scope="session")
def board(system: SocSpec) -> Iterator[VirtualBoard]:
    """A running virtual board, never reset between tests."""
    with VirtualBoard(system) as running:
        yield running
