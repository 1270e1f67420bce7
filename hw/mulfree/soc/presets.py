"""The system that each board carries unless something else is asked for.

Boards are found by the entry-point group ``mulfree.boards``, as commands are: each entry is a
mapping from a board's name to an object whose `system` is a SocSpec. So a package of its own can
bring boards, and this room depends on none.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

from mulfree.soc.top import SocSpec
from mulfree.spec import Spec, SpecError


class _Presets(Mapping[str, SocSpec]):
    """Board -> its system, looked up when first asked for."""

    @cached_property
    def boards(self) -> dict[str, Any]:
        """Every board that is installed."""
        found: dict[str, Any] = {}
        for entry in entry_points(group="mulfree.boards"):
            found |= entry.load()
        return found

    def __getitem__(self, board: str) -> SocSpec:
        return self.boards[board].system

    def __iter__(self) -> Iterator[str]:
        return iter(self.boards)

    def __len__(self) -> int:
        return len(self.boards)


#: Board -> its system.
PRESETS = _Presets()


def preset(board: str) -> SocSpec:
    """Return a board's system.

    Raises
    ------
    SpecError
        There is no such board.
    """
    if board not in PRESETS:
        raise SpecError(f"board must be one of {', '.join(PRESETS)}, not {board!r}")
    return PRESETS[board]


def changed(base: SocSpec, values: dict[str, Any]) -> SocSpec:
    """Return a system with some parameters changed, those of the core by their own names.

    A `kind` other than the base's keeps shape and widths and takes its other defaults.

    Raises
    ------
    SpecError
        A value breaks a rule.
    """
    values = dict(values)
    own = {f.name for f in dataclasses.fields(SocSpec)}
    core = base.core.to_dict()
    kind = values.pop("kind", core["unit"])
    if kind != core["unit"]:
        kept = ("outputs", "lanes", "act_bits", "act_signed", "weight_bits", "double_buffer")
        core = {"unit": kind, **{name: core[name] for name in kept}}
        if kind == "pot":
            del core["weight_bits"]
    elif any(name not in own for name in values):
        # What was derived from the former parameters is derived anew.
        core |= {
            f.name: f.metadata["unset"]
            for f in dataclasses.fields(base.core)
            if f.metadata.get("unset") is not None
        }
    core |= {name: values.pop(name) for name in list(values) if name not in own}
    return dataclasses.replace(base, core=Spec.from_dict(core), **values)
