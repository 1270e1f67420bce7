"""Every command in the README and the docs works as written, and every link leads somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

from mulfree import tools
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(slow: bool) -> list[tuple[str, str]]:
    """(page, command) of every `sh` block; a block marked `sh slow` takes minutes."""
    found: dict[str, str] = {}
    for page in PAGES:
        for mark, block in re.findall(r"^```sh *(\w*)\n(.*?)^```", page.read_text(), re.M | re.S):
            if (mark == "slow") == slow:
                for line in re.sub(r"\\\n\s*", "", block).splitlines():
                    if command := re.sub(r"\s+#.*", "", line).strip():
                        found.setdefault(command, page.relative_to(ROOT).as_posix())
    return [(page, command) for command, page in found.items()]


def run(command: str, folder: Path) -> None:
    program, *words = command.split()
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(words) <= set(targets), command
        return
    assert program == "mulfree", f"a documented command is neither make nor mulfree: {command}"
    done = subprocess.run(
        [tools.executable("mulfree"), *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(("page", "command"), commands(slow=False))
def test_command(page: str, command: str, tmp_path: Path) -> None:
    del page
    run(command, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "command"), commands(slow=True))
def test_slow_command(page: str, command: str, tmp_path: Path) -> None:
    del page
    run(command, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
