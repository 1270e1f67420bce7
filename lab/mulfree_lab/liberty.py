"""Liberty files: the cells of a library, their areas, pins, functions, delays and energies.

Only what measuring needs is read. Units are turned into µm² (or the library's own area unit), pF,
ns, V and pJ: an internal-power table holds energies in V² times the unit of capacitance.
"""

import bisect
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class LibertyError(ValueError):
    """A Liberty file cannot be used; the message is one sentence."""


@dataclass
class Group:
    """``name (arguments) { … }``: simple attributes, complex ones, and groups within."""

    name: str
    arguments: list[str]
    attributes: dict[str, list[str]] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)

    def all(self, name: str) -> Iterator["Group"]:
        """Return the groups of a name."""
        return (group for group in self.groups if group.name == name)

    def text(self, name: str, default: str = "") -> str:
        """Return a simple attribute."""
        return self.attributes.get(name, [default])[0]

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a simple attribute that is a number."""
        return float(self.attributes[name][0]) if name in self.attributes else default


_TOKEN = re.compile(
    r'\s+|/\*.*?\*/|//[^\n]*|\\\r?\n|(?P<text>"(?:[^"\\]|\\.)*")|(?P<mark>[{}();:,])'
    r"|(?P<word>[^\s{}();:,\"]+)",
    re.S,
)


def parse(text: str) -> Group:
    """Return the outermost group of a Liberty text.

    Raises
    ------
    LibertyError
        The text is not one group.
    """
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        if match.lastgroup:
            tokens.append(match.group())
    try:
        group, end = _statement(tokens, 0)
    except IndexError:
        raise LibertyError("Liberty file must be whole, not cut off") from None
    if not isinstance(group, Group) or end < len(tokens):
        raise LibertyError("Liberty file must be one library group, not something else")
    return group


def _statement(tokens: list[str], at: int) -> tuple[Any, int]:
    """Return a group, or (name, values) of an attribute, and where the next statement begins."""
    name = tokens[at]
    if tokens[at + 1] == ":":
        end = at + 2
        while tokens[end] not in (";", "}"):
            end += 1
        value = " ".join(_bare(token) for token in tokens[at + 2 : end])
        return (name, [value]), end + (tokens[end] == ";")
    if tokens[at + 1] != "(":
        raise LibertyError(f"Liberty statement must go on with : or (, not {tokens[at + 1]!r}")
    close = tokens.index(")", at + 2)
    arguments = [_bare(token) for token in tokens[at + 2 : close] if token != ","]
    if close + 1 >= len(tokens) or tokens[close + 1] != "{":
        semicolon = close + 1 < len(tokens) and tokens[close + 1] == ";"
        return (name, arguments), close + 1 + semicolon
    group, at = Group(name, arguments), close + 2
    while tokens[at] != "}":
        if tokens[at] == ";":
            at += 1
            continue
        found, at = _statement(tokens, at)
        if isinstance(found, Group):
            group.groups.append(found)
        else:
            group.attributes.setdefault(found[0], []).extend(found[1])
    return group, at + 1


def _bare(token: str) -> str:
    return re.sub(r"\\\r?\n\s*", " ", token[1:-1]) if token.startswith('"') else token


@dataclass(frozen=True)
class Table:
    """A look-up table over load (pF) and slew (ns), or over slew alone, bilinear between points.

    Beyond its ends the outermost segment goes on, as static timing tools do.
    """

    loads: tuple[float, ...]
    slews: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def __call__(self, load: float, slew: float) -> float:
        """Return the value at a load and an input slew."""
        i, x = _between(self.loads, load)
        j, y = _between(self.slews, slew)
        v = self.values

        def across(row: tuple[float, ...]) -> float:
            return row[j] if len(row) == 1 else row[j] + y * (row[j + 1] - row[j])

        low = across(v[i])
        return low if len(v) == 1 else low + x * (across(v[i + 1]) - low)


def _between(axis: tuple[float, ...], value: float) -> tuple[int, float]:
    """Return the segment of an axis and the place on it; beyond the ends, below 0 or above 1."""
    if len(axis) == 1:
        return 0, 0.0
    at = min(max(bisect.bisect_right(axis, value) - 1, 0), len(axis) - 2)
    return at, (value - axis[at]) / (axis[at + 1] - axis[at])


@dataclass(frozen=True)
class Arc:
    """From one input pin to one output pin: delays and slews (ns), energies (pJ), rise and fall."""

    pin: str
    rise: Table | None = None
    fall: Table | None = None
    rise_slew: Table | None = None
    fall_slew: Table | None = None


@dataclass(frozen=True)
class Energy:
    """Internal energy (pJ) of one rise and one fall; `pin` is whose change causes it, if known."""

    pin: str
    rise: Table | None
    fall: Table | None


@dataclass(frozen=True)
class Pin:
    """A pin: its capacitance (pF), its function where it is an output, its arcs and energies."""

    name: str
    output: bool
    capacitance: float
    function: str
    clock: bool
    arcs: tuple[Arc, ...]
    energies: tuple[Energy, ...]
    three_state: bool = False


@dataclass(frozen=True)
class Storage:
    """A flip-flop or latch: state names (true, complement) and expressions of pins."""

    kind: str
    state: str
    inverse: str
    data: str
    clock: str
    clear: str
    preset: str


@dataclass(frozen=True)
class LibraryCell:
    """A cell: area (µm² for osu018), leakage (nW), pins, and what it stores, if anything."""

    name: str
    area: float
    leakage: float
    pins: dict[str, Pin]
    storage: Storage | None

    @property
    def outputs(self) -> list[Pin]:
        """Return the output pins."""
        return [pin for pin in self.pins.values() if pin.output]


@dataclass(frozen=True)
class Library:
    """The cells of a Liberty file and its voltage (V)."""

    name: str
    voltage: float
    cells: dict[str, LibraryCell]

    @classmethod
    def read(cls, path: Path) -> "Library":
        """Read a Liberty file.

        Raises
        ------
        LibertyError
            The file cannot be read, or is no Liberty library.
        """
        try:
            text = path.read_text(errors="replace")
        except OSError as error:
            raise LibertyError(
                f"liberty must be a readable file, not {path}: {error.strerror}"
            ) from None
        top = parse(text)
        if top.name != "library":
            raise LibertyError(f"liberty must be a library file, not {top.name!r}")
        units = _Units.of(top)
        templates = {
            group.arguments[0]: group
            for group in top.groups
            if group.name.endswith("_template") and group.arguments
        }
        cells = {group.arguments[0]: _cell(group, units, templates) for group in top.all("cell")}
        if not cells:
            raise LibertyError(f"liberty must have cells, {path} has none")
        name = top.arguments[0] if top.arguments else path.stem
        return cls(name, top.number("nom_voltage", 1.0), cells)


_SCALES = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}


@dataclass(frozen=True)
class _Units:
    """Factors from the library's units to ns, pF and nW."""

    time: float
    capacitance: float
    leakage: float

    @classmethod
    def of(cls, top: Group) -> "_Units":
        def scale(text: str, unit: str, wanted: float) -> float:
            match = re.fullmatch(rf"\s*([\d.eE+-]*)\s*([fpnum]?){unit}\s*", text, re.I)
            if match is None:
                raise LibertyError(f"liberty unit must be a number of {unit}, not {text!r}")
            return float(match[1] or 1) * _SCALES[match[2].lower()] / wanted

        load = "".join(top.attributes.get("capacitive_load_unit", ["1", "pf"]))
        return cls(
            time=scale(top.text("time_unit", "1ns"), "s", 1e-9),
            capacitance=scale(load, "f", 1e-12),
            leakage=scale(top.text("leakage_power_unit", "1nW"), "W", 1e-9),
        )


def _cell(group: Group, units: _Units, templates: dict[str, Group]) -> LibraryCell:
    pins: dict[str, Pin] = {}
    for pin in group.all("pin"):
        for name in pin.arguments:
            pins[name] = _pin(name, pin, units, templates)
    stores = [g for g in group.groups if g.name in ("ff", "latch")]
    storage = None
    if stores:
        s = stores[0]
        flop = s.name == "ff"
        storage = Storage(
            s.name,
            s.arguments[0],
            s.arguments[1] if len(s.arguments) > 1 else "",
            s.text("next_state" if flop else "data_in"),
            s.text("clocked_on" if flop else "enable"),
            s.text("clear"),
            s.text("preset"),
        )
    return LibraryCell(
        group.arguments[0],
        group.number("area"),
        group.number("cell_leakage_power") * units.leakage,
        pins,
        storage,
    )


def _pin(name: str, group: Group, units: _Units, templates: dict[str, Group]) -> Pin:
    def table(owner: Group, kind: str, factor: float) -> Table | None:
        found = next(owner.all(kind), None)
        return _table(found, units, templates, factor) if found else None

    arcs, energies = [], []
    for timing in group.all("timing"):
        made = Arc(
            timing.text("related_pin"),
            table(timing, "cell_rise", units.time),
            table(timing, "cell_fall", units.time),
            table(timing, "rise_transition", units.time),
            table(timing, "fall_transition", units.time),
        )
        if (made.rise or made.fall) and "three_state" not in timing.text("timing_type"):
            arcs.append(made)
    for power in group.all("internal_power"):
        both = table(power, "power", units.capacitance)
        energies.append(
            Energy(
                power.text("related_pin"),
                table(power, "rise_power", units.capacitance) or both,
                table(power, "fall_power", units.capacitance) or both,
            )
        )
    return Pin(
        name,
        group.text("direction") == "output",
        group.number("capacitance") * units.capacitance,
        group.text("function"),
        group.text("clock") == "true",
        tuple(arcs),
        tuple(energies),
        "three_state" in group.attributes,
    )


def _table(group: Group, units: _Units, templates: dict[str, Group], factor: float) -> Table:
    template = templates.get(group.arguments[0] if group.arguments else "")
    axes: list[tuple[str, tuple[float, ...]]] = []
    for place in (1, 2):
        variable = template.text(f"variable_{place}") if template else ""
        index = group.attributes.get(f"index_{place}") or (
            template.attributes.get(f"index_{place}") if template else None
        )
        if index and (variable or not template):
            axes.append((variable, tuple(_numbers(index))))
    values = [tuple(_numbers([row])) for row in group.attributes.get("values", ["0"])]
    rows = tuple(tuple(v * factor for v in row) for row in values)
    if not axes:
        return Table((0.0,), (0.0,), rows)
    is_load = ["capacitance" in variable for variable, _ in axes]
    scaled = [
        tuple(v * (units.capacitance if load else units.time) for v in axis)
        for (_, axis), load in zip(axes, is_load, strict=True)
    ]
    if len(axes) == 1:
        flat = tuple(v for row in rows for v in row)
        if is_load[0]:
            return Table(scaled[0], (0.0,), tuple((v,) for v in flat))
        return Table((0.0,), scaled[0], (flat,))
    size = len(scaled[0]), len(scaled[1])
    flat = [v for row in rows for v in row]
    if len(flat) != math.prod(size):
        raise LibertyError(f"liberty table must have {size[0]} × {size[1]} values, not {len(flat)}")
    grid = tuple(tuple(flat[i * size[1] : (i + 1) * size[1]]) for i in range(size[0]))
    if is_load[0]:
        return Table(scaled[0], scaled[1], grid)
    return Table(scaled[1], scaled[0], tuple(zip(*grid, strict=True)))


def _numbers(texts: Iterable[str]) -> Iterator[float]:
    for text in texts:
        yield from (float(word) for word in re.split(r"[\s,]+", text.strip()) if word)


_LITERAL = re.compile(r"\s*([A-Za-z_][\w\[\]]*|[()!'&*|+^01])")


def verilog(function: str, names: dict[str, str]) -> str:
    """Return a Liberty function as a Verilog expression, pins renamed.

    ``!`` and a trailing ``'`` negate; a space, ``&`` or ``*`` is AND, ``^`` XOR, ``+`` or ``|`` OR,
    binding in this order.

    Raises
    ------
    LibertyError
        The function has something else in it.
    """
    tokens, at = [], 0
    while at < len(function.rstrip()):
        match = _LITERAL.match(function, at)
        if match is None:
            raise LibertyError(f"liberty function must be of pins and operators, not {function!r}")
        tokens.append(match[1])
        at = match.end()
    found, end = _or(tokens, 0, names)
    if end < len(tokens):
        raise LibertyError(f"liberty function must be whole, not {function!r}")
    return found


def _or(tokens: list[str], at: int, names: dict[str, str]) -> tuple[str, int]:
    return _chain(tokens, at, names, ("+", "|"), "|", _xor)


def _xor(tokens: list[str], at: int, names: dict[str, str]) -> tuple[str, int]:
    return _chain(tokens, at, names, ("^",), "^", _and)


def _chain(
    tokens: list[str], at: int, names: dict[str, str], signs: tuple[str, ...], sign: str, below: Any
) -> tuple[str, int]:
    left, at = below(tokens, at, names)
    while at < len(tokens) and tokens[at] in signs:
        right, at = below(tokens, at + 1, names)
        left = f"({left} {sign} {right})"
    return left, at


def _and(tokens: list[str], at: int, names: dict[str, str]) -> tuple[str, int]:
    left, at = _factor(tokens, at, names)
    while at < len(tokens) and tokens[at] not in ("+", "|", "^", ")"):
        at += tokens[at] in ("&", "*")
        right, at = _factor(tokens, at, names)
        left = f"({left} & {right})"
    return left, at


def _factor(tokens: list[str], at: int, names: dict[str, str]) -> tuple[str, int]:
    token = tokens[at] if at < len(tokens) else ""
    if token == "!":
        inner, at = _factor(tokens, at + 1, names)
        found = f"~{inner}"
    elif token == "(":
        inner, at = _or(tokens, at + 1, names)
        if at >= len(tokens) or tokens[at] != ")":
            raise LibertyError("liberty function must close its parentheses")
        found, at = f"({inner})", at + 1
    elif token in ("0", "1"):
        found, at = f"1'b{token}", at + 1
    elif token in names:
        found, at = names[token], at + 1
    else:
        raise LibertyError(f"liberty function must name pins of its cell, not {token!r}")
    while at < len(tokens) and tokens[at] == "'":
        found, at = f"~{found}", at + 1
    return found, at
