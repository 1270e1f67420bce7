"""The system that each board carries unless something else is asked for."""

import dataclasses
from typing import Any

from mulfree.soc.top import SocSpec
from mulfree.spec import Spec, SpecError
from mulfree.units.lutna import LutNASpec


def _uart(clock_hz: int, baud: int = 115200) -> dict[str, Any]:
    """Return the UART's parameters: 0.1 s of silence ends a command, as with LiteX."""
    return {"bit_clocks": round(clock_hz / baud), "timeout_bits": (clock_hz // 10).bit_length()}


_LARGE = LutNASpec(outputs=16, lanes=16)
_ROOM: dict[str, Any] = {"program_words": 8192, "data_words": 4096, "channels": 256}

#: Board -> its system. Left shifts occur in few networks, but cost little.
PRESETS = {
    "ulx3s-85f": SocSpec(core=_LARGE, left_shift=3, **_ROOM, **_uart(25_000_000)),
    "ulx3s-25f": SocSpec(
        core=LutNASpec(outputs=8, lanes=16), left_shift=3, **_ROOM, **_uart(25_000_000)
    ),
    "icebreaker": SocSpec(
        core=LutNASpec(outputs=4, lanes=4), program_words=1024, data_words=512, **_uart(12_000_000)
    ),
    "tang-nano-9k": SocSpec(
        core=LutNASpec(outputs=4, lanes=8), program_words=4096, data_words=1024, **_uart(27_000_000)
    ),
    "arty-z7-20": SocSpec(core=_LARGE, bridge="axilite", left_shift=3, **_ROOM),
    "zcu104": SocSpec(core=_LARGE, bridge="axilite", left_shift=3, **_ROOM),
}


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
