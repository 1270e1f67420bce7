"""The parameters of a unit: declared once, checked once, used by everything.

A `Spec` is a frozen dataclass whose fields are declared with `integer`, `choice`, `flag`, `matrix`
or `nested`. The declaration carries the legal range and one line of help, from which the check, the
command line, the manifest, the documentation and the property-based tests are all derived.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self


class SpecError(ValueError):
    """A parameter breaks a rule; the message is one sentence that names thing, rule and value."""


def integer(default: int, low: int, high: int, help: str, *, unset: int | None = None) -> Any:
    """Declare an integer parameter in `low`…`high`.

    `unset` is one value outside the range that stands for "derive it".
    """
    return field(
        default=default,
        metadata={"kind": "integer", "low": low, "high": high, "unset": unset, "help": help},
    )


def choice(default: str, options: tuple[str, ...], help: str) -> Any:
    """Declare a parameter that is one of `options`."""
    return field(default=default, metadata={"kind": "choice", "options": options, "help": help})


def flag(default: bool, help: str) -> Any:
    """Declare a yes-or-no parameter."""
    return field(default=default, metadata={"kind": "flag", "help": help})


def matrix(help: str) -> Any:
    """Declare an optional integer matrix, a tuple of equally long rows."""
    return field(default=None, metadata={"kind": "matrix", "help": help})


def nested(units: tuple[str, ...], help: str) -> Any:
    """Declare a parameter that is itself the Spec of one of `units`."""
    return field(metadata={"kind": "nested", "units": units, "help": help})


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_field(f: dataclasses.Field, value: object) -> object:
    """Return a field's value in canonical form, or raise with one sentence."""
    rule = f.metadata
    match rule["kind"]:
        case "integer":
            if not _is_int(value):
                raise TypeError(f"{f.name} must be an integer, not {value!r}")
            if value == rule["unset"] and rule["unset"] is not None:
                return value
            if not rule["low"] <= value <= rule["high"]:
                low, high = rule["low"], rule["high"]
                raise SpecError(f"{f.name} must be between {low} and {high}, not {value}")
        case "choice":
            if value not in rule["options"]:
                options = ", ".join(rule["options"])
                raise SpecError(f"{f.name} must be one of {options}, not {value!r}")
        case "flag":
            if not isinstance(value, bool):
                raise TypeError(f"{f.name} must be true or false, not {value!r}")
        case "matrix":
            return _check_matrix(f.name, value)
        case "nested":
            if not isinstance(value, Spec) or value.unit not in rule["units"]:
                units = ", ".join(rule["units"])
                raise TypeError(f"{f.name} must be the Spec of one of {units}, not {value!r}")
    return value


def _check_matrix(name: str, value: Any) -> tuple[tuple[int, ...], ...] | None:
    if value is None:
        return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    try:
        rows = tuple(tuple(row) for row in value)
    except TypeError:
        raise TypeError(f"{name} must be a matrix of integers, not {value!r}") from None
    if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        raise SpecError(f"{name} must have equally long rows, not lengths {[*map(len, rows)]}")
    for item in (item for row in rows for item in row):
        if not _is_int(item):
            raise TypeError(f"{name} must be a matrix of integers, not one with {item!r}")
    return rows


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Base of every unit's parameters.

    A subclass sets `unit` (its name in the catalogue), declares fields, extends `check` with the
    rules that span several fields, and returns its hardware from `component`. `latency` is the
    number of clock edges from an input to the output that it causes, or None where streams decide.
    """

    unit: ClassVar[str]

    def __post_init__(self) -> None:
        """Check every field in order, then the rules between fields."""
        for f in dataclasses.fields(self):
            object.__setattr__(self, f.name, check_field(f, getattr(self, f.name)))
        self.check()

    def check(self) -> None:
        """Check rules that span several fields; raise `SpecError` with one sentence."""

    @property
    def latency(self) -> int | None:
        """Clock edges from input to output, or None where streams decide."""
        return None

    def component(self) -> Any:
        """Build the Amaranth component."""
        raise NotImplementedError(f"{type(self).__name__} has no component")

    def variants(self, fixed: frozenset[str] = frozenset()) -> "list[Spec]":
        """Return Specs of the same function and other structure, this one first.

        A measurement takes the best of them. Parameters named in `fixed` keep their values.
        """
        del fixed  # this unit has one structure
        return [self]

    def to_dict(self) -> dict[str, Any]:
        """Return the unit's name and every field as plain JSON types."""
        values: dict[str, Any] = {"unit": self.unit}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            values[f.name] = value.to_dict() if isinstance(value, Spec) else value
        return values

    def to_json(self) -> str:
        """Return the canonical JSON text of `to_dict`."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build the Spec that `to_dict` described; on the base class, any unit's.

        Raises
        ------
        SpecError
            The unit is another one, or a field is unknown or breaks a rule.
        """
        from mulfree.catalog import spec_class  # the catalogue names every Spec, so it loads last

        values = dict(values)
        unit = values.pop("unit", getattr(cls, "unit", None))
        kind = spec_class(unit)
        if not issubclass(kind, cls):
            raise SpecError(f"unit must be {cls.unit}, not {unit!r}")
        known = {f.name: f for f in dataclasses.fields(kind)}
        for name in values:
            if name not in known:
                raise SpecError(f"{name} is not a parameter of {unit}")
        for name, f in known.items():
            if f.metadata["kind"] == "nested" and isinstance(values.get(name), dict):
                values[name] = Spec.from_dict(values[name])
        return kind(**values)  # type: ignore[return-value]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build the Spec from its JSON text."""
        return cls.from_dict(json.loads(text))
