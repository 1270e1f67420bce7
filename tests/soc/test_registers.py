import re
import subprocess
from functools import reduce
from operator import or_

import pytest
from click.testing import CliRunner

from mulfree.cli import commands
from mulfree.soc.registers import c_header, page, register_map
from tests.conftest import ROOT

MAP = register_map()


def test_pack_and_unpack():
    word = MAP.shape.pack(outputs=3, lanes=8)
    assert word == 3 | 8 << 16
    assert MAP.shape.unpack(word) == {"outputs": 3, "lanes": 8}
    with pytest.raises(ValueError, match=r"limits.slots must be between 0 and 2047, not 2048"):
        MAP.limits.pack(slots=2048)


def test_registers_do_not_overlap():
    offsets = [r.offset for r in MAP.registers.values()]
    assert len(set(offsets)) == len(offsets)
    assert all(offset % 4 == 0 for offset in offsets)
    assert max(offsets) < min(w.offset for w in MAP.windows.values())
    for register in MAP.registers.values():
        masks = [f.mask for f in register.fields.values()]
        assert sum(masks) == reduce(or_, masks)


def test_page_is_up_to_date():
    """`mulfree registers --markdown -o docs/registers.md` makes it."""
    assert (ROOT / "docs" / "registers.md").read_text() == page()


def test_c_header_compiles_and_agrees(tmp_path):
    """Every offset and mask, as a C compiler sees them."""
    (tmp_path / "mulfree_registers.h").write_text(c_header())
    lines = ['#include "mulfree_registers.h"', "#include <stddef.h>"]
    for r in MAP.registers.values():
        lines.append(f'static_assert(MULFREE_{r.name.upper()}_OFFSET == {r.offset}, "");')
        lines.append(f'static_assert(offsetof(mulfree_t, {r.name}) == {r.offset}, "");')
        for f in r.fields.values():
            name = f"MULFREE__{r.name.upper()}__{f.name.upper()}"
            lines.append(f'static_assert({name}_bm == {f.mask:#x}, "");')
            for value, number in f.encoding.items():
                stem = f"MULFREE_{r.name}_{f.name}_{value}".upper()
                lines.append(f'static_assert({stem} == {number}, "");')
    for w in MAP.windows.values():
        lines.append(f'static_assert(offsetof(mulfree_t, {w.name}) == {w.offset}, "");')
    source = tmp_path / "check.cpp"
    source.write_text("\n".join(lines) + "\n")
    done = subprocess.run(["g++", "-fsyntax-only", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_command(tmp_path):
    listed = CliRunner().invoke(commands, ["registers"])
    assert re.search(r"0x00020  status +Status", listed.output)
    target = tmp_path / "r.h"
    done = CliRunner().invoke(commands, ["registers", "--c-header", "-o", str(target)])
    assert done.exit_code == 0
    assert target.read_text() == c_header()
