"""The register map as `registers.rdl` states it: for the RTL, the Python client, C and the docs."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from systemrdl.compiler import RDLCompiler
from systemrdl.node import AddrmapNode, FieldNode, MemNode, RegNode


@dataclass(frozen=True)
class Field:
    """Some bits of a register.

    Members
    -------
    access : str
        What software may do: ``r``, ``w`` or ``rw``.
    source : str
        What hardware sees: ``constant``, ``wire`` (hardware gives it), ``held`` (software writes
        it), ``pulse`` (1 for one clock), ``event`` (hardware sets it, writing 1 clears it) or
        ``storage`` (software's own).
    encoding : dict[str, int]
        The names of its values, where it has names.
    """

    name: str
    low: int
    width: int
    reset: int
    access: str
    source: str
    description: str
    encoding: dict[str, int] = field(default_factory=dict)

    @property
    def mask(self) -> int:
        """The bits, in place."""
        return ((1 << self.width) - 1) << self.low

    def of(self, word: int) -> int:
        """Return the field's value in a register's word."""
        return (word & self.mask) >> self.low


@dataclass(frozen=True)
class Register:
    """A 32-bit register; `offset` in bytes."""

    name: str
    offset: int
    title: str
    description: str
    fields: dict[str, Field]

    def pack(self, **values: int) -> int:
        """Return the word with the given fields, the others 0.

        Raises
        ------
        ValueError
            A value does not fit in its field.
        """
        word = 0
        for name, value in values.items():
            place = self.fields[name]
            if not 0 <= value < 1 << place.width:
                raise ValueError(
                    f"{self.name}.{name} must be between 0 and {(1 << place.width) - 1}, "
                    f"not {value}"
                )
            word |= value << place.low
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """Return every field of a word."""
        return {name: place.of(word) for name, place in self.fields.items()}


@dataclass(frozen=True)
class Window:
    """A memory's place in the map; `offset` in bytes, `words` of 32 bits at the most."""

    name: str
    offset: int
    words: int
    title: str
    description: str


@dataclass(frozen=True)
class Map:
    """Every register and memory by name."""

    description: str
    registers: dict[str, Register]
    windows: dict[str, Window]

    def __getattr__(self, name: str) -> Any:
        for table in ("registers", "windows"):
            if name in self.__dict__.get(table, {}):
                return self.__dict__[table][name]
        raise AttributeError(name)

    @property
    def address_bits(self) -> int:
        """Width of a word address that reaches everything."""
        return max((w.offset // 4 + w.words - 1).bit_length() for w in self.windows.values())

    def fields(self) -> Iterator[tuple[Register, Field]]:
        """Every field with its register."""
        for register in self.registers.values():
            for place in register.fields.values():
                yield register, place


def _compiled() -> AddrmapNode:
    compiler = RDLCompiler()
    with resources.as_file(resources.files("mulfree.soc").joinpath("registers.rdl")) as path:
        compiler.compile_file(str(path))
    return compiler.elaborate().top


@cache
def register_map() -> Map:
    """Return the map, compiled from the SystemRDL text."""
    top = _compiled()
    registers, windows = {}, {}
    for node in top.children():
        title, about = node.get_property("name"), node.get_property("desc") or ""
        name, offset = node.inst_name, node.address_offset
        match node:
            case RegNode():
                fields = {f.inst_name: _field(f) for f in node.fields()}
                registers[name] = Register(name, offset, title, about, fields)
            case MemNode():
                entries = node.get_property("mementries")
                windows[name] = Window(name, offset, entries, title, about)
    return Map(top.get_property("desc"), registers, windows)


def _field(node: FieldNode) -> Field:
    access = ("r" if node.is_sw_readable else "") + ("w" if node.is_sw_writable else "")
    if node.get_property("singlepulse"):
        source = "pulse"
    elif node.get_property("hwset"):
        source = "event"
    elif node.is_hw_writable:
        source = "wire"
    elif node.is_sw_writable:
        source = "held" if node.is_hw_readable else "storage"
    else:
        source = "constant"
    encoding = node.get_property("encode")
    return Field(
        name=node.inst_name,
        low=node.low,
        width=node.width,
        reset=node.get_property("reset") or 0,
        access=access,
        source=source,
        description=node.get_property("desc"),
        encoding={m.name: m.value for m in encoding} if encoding else {},
    )


def c_header() -> str:
    """Return ``mulfree_registers.h``: peakrdl-cheader's structure, then codes and offsets."""
    from peakrdl_cheader.exporter import CHeaderExporter  # only this needs it

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "mulfree_registers.h"
        CHeaderExporter().export(_compiled(), str(path))
        text = path.read_text()
    lines = []
    for register, place in register_map().fields():
        stem = f"MULFREE_{register.name}_{place.name}".upper()
        lines += [
            f"#define {stem}_{name.upper()} {value}" for name, value in place.encoding.items()
        ]
    for window in register_map().windows.values():
        lines.append(f"#define MULFREE_{window.name.upper()}_OFFSET {window.offset:#x}")
    lines += [
        f"#define MULFREE_{r.name.upper()}_OFFSET {r.offset:#x}"
        for r in register_map().registers.values()
    ]
    extra = "\n/* Codes and byte offsets */\n" + "\n".join(lines) + "\n"
    # Inside the header's guard and its extern "C" block, which hold the definitions.
    head, mark, tail = text.rpartition("#ifdef __cplusplus")
    return head + extra.lstrip("\n") + "\n" + mark + tail if mark else text + extra


def page() -> str:
    """Return the documentation page, Markdown."""
    described = register_map()
    out = [
        "# Registers",
        "",
        "<!-- Made from hw/mulfree/soc/registers.rdl by `mulfree registers --markdown`. -->",
        "",
        described.description,
        "Words of 32 bits, little-endian; offsets in bytes. Over UART an address counts words.",
        "",
        "| offset | name | what |",
        "| --- | --- | --- |",
    ]
    for r in described.registers.values():
        out.append(f"| 0x{r.offset:05X} | [`{r.name}`](#{r.name}) | {r.title} |")
    for w in described.windows.values():
        out.append(f"| 0x{w.offset:05X} | `{w.name}` | {w.title}. {w.description} |")
    for r in described.registers.values():
        out += ["", f"## {r.name}", "", *([r.description, ""] if r.description else [])]
        out += ["| bits | field | access | reset | what |", "| --- | --- | --- | --- | --- |"]
        for f in r.fields.values():
            high = f.low + f.width - 1
            bits = f"{high}:{f.low}" if f.width > 1 else f"{f.low}"
            reset = "" if f.source == "wire" else f"{f.reset:#x}"
            names = "; ".join(f"{value} {name}" for name, value in f.encoding.items())
            about = f"{f.description} ({names})" if names else f.description
            out.append(f"| {bits} | `{f.name}` | {f.access} | {reset} | {about} |")
    return "\n".join(out) + "\n"
