"""Network engines as users name them: ``kind=lutna,outputs=16,lanes=36,scalers=8``."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from mulfree.catalog import KINDS, UNITS, spec_class
from mulfree.engine.layers import TAPS, EngineShape
from mulfree.engine.network import NetworkSpec
from mulfree.engine.program import Program
from mulfree.spec import Spec, SpecError
from mulfree.units.core import CoreSpec

#: What an engine is where nothing else is said.
DEFAULTS: dict[str, Any] = {
    "kind": "lutna",
    "outputs": 16,
    "lanes": 36,
    "scalers": 4,
    "rounding": "double",
}
#: What is largest where nothing is said: a program says how much of it it needs.
ROOM: dict[str, int] = {
    "channels": 4096,
    "map_words": 1 << 16,
    "keep_words": 1 << 16,
    "left_shift": 30,
    "program_words": 1 << 20,
}


#: Activations of the hardware; those of the golden model may be wider.
MOST_ACT_BITS = 8


def engine(text: str = "") -> tuple[EngineShape, Spec | None]:
    """Return the engine that a text describes, and its Spec where the hardware has one.

    With activations of more than 8 bits there is no hardware; the golden model computes them.

    Parameters
    ----------
    text
        ``name=value`` pairs, separated by commas, or the name of a JSON file: a Spec or a manifest.

    Raises
    ------
    SpecError
        A name is unknown or a value breaks a rule.
    """
    values = DEFAULTS | ROOM
    if text.endswith(".json"):
        spec = _from_file(Path(text))
        return EngineShape.of(spec), spec
    values |= _pairs(text)
    kind = values.pop("kind")
    if kind not in KINDS:
        raise SpecError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    core_class = spec_class(kind)
    own = {f.name for f in dataclasses.fields(core_class)}
    core = core_class(**{n: values.pop(n) for n in list(values) if n in own})
    assert isinstance(core, CoreSpec)
    if core.lanes % TAPS:
        raise SpecError(f"lanes must be a multiple of {TAPS}, not {core.lanes}")
    if "network" in UNITS and core.act_bits <= MOST_ACT_BITS:
        return _of_network(core, values)
    shape = {
        "slice_channels": core.lanes // TAPS, "act": core.act_format,
        "weight": core.weight_format, "outputs": core.outputs,
    }  # fmt: skip
    _check_names(values, {f.name for f in dataclasses.fields(EngineShape)} - set(shape))
    return EngineShape(**shape, **values), None


def fitted(spec: NetworkSpec, text: str, program: Program) -> NetworkSpec:
    """Return an engine of a text with no more than a program needs of what the text does not say.

    What an engine has room for can cost clocks: a left shift is a register on the way.
    """
    if text.endswith(".json"):
        return spec
    given = _pairs(text)
    return dataclasses.replace(spec, **{n: v for n, v in program.least.items() if n not in given})


def _pairs(text: str) -> dict[str, Any]:
    values = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise SpecError(f"engine must be pairs name=value, not {pair!r}")
        values[name.strip().replace("-", "_")] = _value(value.strip())
    return values


def _of_network(core: CoreSpec, values: dict[str, Any]) -> tuple[EngineShape, Spec]:
    kind = spec_class("network")
    fields = {f.name for f in dataclasses.fields(kind)}
    _check_names(values, fields)
    spec = kind(core=core, **values)  # type: ignore[call-arg]
    return EngineShape.of(spec), spec


def _check_names(values: dict[str, Any], known: set[str]) -> None:
    for name in values:
        if name not in known:
            raise SpecError(f"{name} is not a parameter of a network engine")


def _value(text: str) -> Any:
    words = {"true": True, "false": False}
    try:
        return words[text] if text in words else int(text)
    except ValueError:
        return text


def _from_file(path: Path) -> Spec:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SpecError(f"engine must be a readable JSON file, not {path} ({error})") from None
    spec = Spec.from_dict(values.get("spec", values))
    if spec.unit != "network":
        raise SpecError(f"engine must be the Spec of a network unit, not of {spec.unit}")
    return spec
