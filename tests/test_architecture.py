"""The import arrows between the rooms, and the names that a unit has in each."""

import ast
from pathlib import Path

import pytest

from mulfree.catalog import UNITS
from tests.conftest import ROOT

#: Which packages a source root may import from.
MAY_IMPORT = {
    "hw/mulfree": {"mulfree"},
    "sim/mulfree_sim": {"mulfree", "mulfree_sim"},
    "models/mulfree_models": {"mulfree", "mulfree_sim", "mulfree_models"},
    "lab/mulfree_lab": {"mulfree", "mulfree_sim", "mulfree_models", "mulfree_lab"},
    "boards/mulfree_boards": {
        "mulfree", "mulfree_sim", "mulfree_models", "mulfree_lab", "mulfree_boards",
    },
    "firmware/mulfree_firmware": {
        "mulfree", "mulfree_sim", "mulfree_models", "mulfree_firmware",
    },
}  # fmt: skip
#: Inside hw, lowest first: a room imports from those before it and itself.
ROOMS = ["formats", "arith", "units", "engine", "soc"]


def imports(path: Path) -> set[str]:
    """Full names of every module that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("root", [r for r in MAY_IMPORT if (ROOT / r).is_dir()])
def test_roots_import_only_what_they_may(root: str) -> None:
    for path in (ROOT / root).rglob("*.py"):
        ours = {n.split(".")[0] for n in imports(path)}
        ours = {n for n in ours if n == "tests" or n.startswith("mulfree")}
        assert ours <= MAY_IMPORT[root], path


@pytest.mark.parametrize("room", ROOMS)
def test_hardware_rooms_import_downwards(room: str) -> None:
    for path in (ROOT / "hw/mulfree" / room).rglob("*.py"):
        used = {n.split(".")[1] for n in imports(path) if n.startswith("mulfree.")}
        assert not used & set(ROOMS[ROOMS.index(room) + 1 :]), path


def test_golden_models_never_elaborate() -> None:
    for path in (ROOT / "sim/mulfree_sim/golden").rglob("*.py"):
        text = path.read_text()
        assert "amaranth" not in text, path
        assert "elaborate" not in text, path
        assert ".component(" not in text, path


def test_no_future_annotations_in_hardware() -> None:
    for path in (ROOT / "hw").rglob("*.py"):
        assert "from __future__ import annotations" not in path.read_text(), path


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_has_one_name_everywhere(unit: str) -> None:
    room = UNITS[unit].split(".")[1]
    for place in (
        f"sim/mulfree_sim/golden/{unit}.py",
        f"sim/mulfree_sim/benches/{unit}.py",
        f"tests/{room}/test_{unit}.py",
        f"docs/units/{unit}.md",
    ):
        assert (ROOT / place).exists(), place
