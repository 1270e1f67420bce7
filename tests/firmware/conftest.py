"""One virtual board serves every test of this room: compiling it takes longest."""

from collections.abc import Iterator

import pytest

from mulfree.soc.presets import preset
from mulfree.soc.top import SocSpec
from mulfree_sim.virtual_board import VirtualBoard, on_the_line


@pytest.fixture(scope="session")
def system() -> SocSpec:
    """The system of the board."""
    return on_the_line(preset("tang-nano-9k"))


@pytest.fixture(scope="session")
def board(system: SocSpec) -> Iterator[VirtualBoard]:
    """A running virtual board, never reset between tests."""
    with VirtualBoard(system) as running:
        yield running
