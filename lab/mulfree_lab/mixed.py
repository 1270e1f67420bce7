"""Mixed precision: for each layer the kind of MAC and its bits, under an accuracy budget.

How much a layer can bear is measured on a network that runs here; the choice is made for networks
of which only the layers' shapes are known as well. A layer of those is as sensitive as the one at
the same depth of the network that was measured: a stand-in, as their own weights and data are not
at hand.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mulfree_lab import architectures, choices
from mulfree_lab.choices import FULL, Choice, Cost
from mulfree_lab.precision import Precisions, batches, decisions
from mulfree_models.graph import Array, Graph

#: What the choice saves: energy, area, or both alike.
WEIGHTS = {"energy": (1.0, 0.0), "area": (0.0, 1.0), "both": (0.5, 0.5)}
#: Images computed at a time.
BATCH = 256
#: Noise below which a change counts as none.
QUIET = 1e-6

#: Told what is done, and how often it has been.
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Goal:
    """What is wanted.

    Members
    -------
    budget, noise
        Percentage of classes that may change, and noise that there may be: see `Verdict`.
    weigh
        What is saved, one of `WEIGHTS`.
    sparsity
        Share of the weights that pruning made zero, whose products nobody computes.
    """

    budget: float
    noise: float
    weigh: str
    sparsity: float


@dataclass(frozen=True)
class Verdict:
    """How far a graph is from the one of full precision.

    Members
    -------
    changed
        Percentage of images that it puts into another class. It bounds the points of accuracy lost:
        a class that changes may have been wrong before.
    noise
        Energy of its outputs' errors over that of the outputs.
    lost
        Points of accuracy lost, where classes are known.
    """

    changed: float
    noise: float
    lost: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Return rounded figures."""
        lost = None if self.lost is None else round(self.lost, 2)
        return {"changed": round(self.changed, 2), "noise": round(self.noise, 4), "lost": lost}


class Judge:
    """Compares graphs with the one of full precision on some images.

    Parameters
    ----------
    codes, labels
        Inputs, and their classes where those are known.
    """

    def __init__(self, graph: Graph, codes: Array, labels: Array | None = None) -> None:
        self.codes, self._labels = codes, labels
        self._full = self._run(graph)

    def _run(self, graph: Graph) -> Array:
        return np.concatenate([decisions(graph, some) for some in batches(self.codes, BATCH)])

    def verdict(self, graph: Graph) -> Verdict:
        """Return how far a graph is from the full one."""
        found = self._run(graph)
        classes, before = found.argmax(axis=1), self._full.argmax(axis=1)
        lost = None
        if self._labels is not None:
            right = (before == self._labels).mean() - (classes == self._labels).mean()
            lost = 100 * float(right)
        noise = np.square(found - self._full).mean() / self._full.var()
        return Verdict(100 * float((classes != before).mean()), float(noise), lost)


@dataclass(frozen=True)
class Sensitivity:
    """Noise of the network when one layer alone is coarser, by layer.

    Members
    -------
    acts
        By activation bits.
    weights
        By coding of the weights, as `Choice.coding`.
    """

    acts: dict[str, dict[int, float]]
    weights: dict[str, dict[tuple[str, int, int], float]]

    def of(self, layer: str, choice: Choice) -> float:
        """Return the noise of a choice, taken to be the sum of both causes."""
        return self.acts[layer][choice.act_bits] + self.weights[layer][choice.coding]


def sensitivity(
    precisions: Precisions, judge: Judge, table: Mapping[Choice, Cost], progress: Progress
) -> Sensitivity:
    """Measure every layer at every width of activations, and at every coding of weights."""
    acts = {choice.act_bits: Choice("digital", choice.act_bits, 8) for choice in table}
    codings = {choice.coding: choice for choice in table if choice.act_bits == 8}
    found = Sensitivity({}, {})
    names = [op.output for op in precisions.layers]
    for place, name in enumerate(names):
        progress(f"measuring what layer {place + 1} of {len(names)} bears", place)

        def noise(choice: Choice, layer: str = name) -> float:
            if choice.coding == FULL.coding and choice.act_bits == FULL.act_bits:
                return 0.0
            return judge.verdict(precisions.apply({layer: choice})).noise

        found.acts[name] = {bits: noise(choice) for bits, choice in acts.items()}
        found.weights[name] = {coding: noise(choice) for coding, choice in codings.items()}
    return found


#: A choice for each layer.
State = dict[str, Choice]


def _start(price: Mapping[Choice, float], layers: Iterable[str]) -> State:
    whole = [c for c in price if (c.act_bits, c.coding) == (FULL.act_bits, FULL.coding)]
    return dict.fromkeys(layers, min(whole, key=price.__getitem__))


def _next(
    state: State, noise: Sensitivity, price: Mapping[Choice, float], macs: Mapping[str, int],
    bound: Mapping[str, float],
) -> tuple[str, Choice] | None:  # fmt: skip
    """Return the layer and the choice that save most for the noise they add; None at the end."""
    moves = []
    for name, now in state.items():
        for choice in price:
            saved, own = macs[name] * (price[now] - price[choice]), noise.of(name, choice)
            if saved > 0 and own < bound[name]:
                added = max(own - noise.of(name, now), QUIET)
                moves.append((saved / added, name, choice))
    return max(moves, key=lambda move: move[0])[1:] if moves else None


def choose(
    noise: Sensitivity,
    price: Mapping[Choice, float],
    macs: Mapping[str, int],
    fits: Callable[[State], bool],
) -> State:
    """Return a choice for each layer: greedy, the largest saving for the noise it adds first.

    The way is laid out by the noise alone and walked as far as the network fits. From there each
    change is tried; one that does not fit is undone, and with it what is noisier in that layer.

    Parameters
    ----------
    price
        What a MAC of each choice costs.
    macs
        Products of each layer, which weigh the price.
    fits
        Whether the network is within the budget.
    """
    bound = dict.fromkeys(macs, float("inf"))
    way = [_start(price, macs)]
    while move := _next(way[-1], noise, price, macs, bound):
        way.append(way[-1] | dict([move]))
    good, bad = 0, len(way)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(way[middle]) else (good, middle)
    state = way[good]
    while move := _next(state, noise, price, macs, bound):
        name, choice = move
        if fits(state | {name: choice}):
            state |= {name: choice}
        else:
            bound[name] = noise.of(name, choice)
    return state


@dataclass(frozen=True)
class Row:
    """One network: its layers, each with its products, its choice, and the layer it is judged by.

    Members
    -------
    chooser, held_out
        What the same choice makes of the network that was measured, by the images that chose and
        by others.
    """

    network: str
    layers: tuple[tuple[str, int, Choice, str], ...]
    chooser: Verdict
    held_out: Verdict
    table: Mapping[Choice, Cost]
    digital: Cost
    sparsity: float

    def _mean(self, what: str, keep: Callable[[Choice], Choice] = lambda choice: choice) -> float:
        """Return area or energy of a MAC, the mean over all."""
        total = sum(n * getattr(self.table[keep(choice)], what) for _, n, choice, _ in self.layers)
        return total / self.macs

    @property
    def macs(self) -> int:
        """Products of an inference, before those of zero weights are left out."""
        return sum(n for _, n, _, _ in self.layers)

    def factor(self, what: str) -> float:
        """Return how many times less area or energy it takes than conventional 8-bit MACs."""
        return getattr(self.digital, what) / self._mean(what)

    def narrowed(self, what: str) -> float:
        """Return the same for conventional MACs of the same bits, powers of two as integers."""

        def conventional(choice: Choice) -> Choice:
            bits = choice.weight_bits if choice.kind != "pot" else 8
            return Choice("digital", choice.act_bits, bits)

        return getattr(self.digital, what) / self._mean(what, conventional)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: area for one product a clock of every MAC that is left."""
        left = self.macs * (1 - self.sparsity)
        layers = [
            {"layer": name, "macs": n, "choice": choice.name, "as": judged}
            for name, n, choice, judged in self.layers
        ]
        mean = {what: self._mean(what) for what in ("area", "energy")}
        return {
            "network": self.network,
            "macs": self.macs,
            "macs_left": round(left),
            **self.chooser.to_dict(),
            **{f"held_out_{name}": value for name, value in self.held_out.to_dict().items()},
            "area_per_mac": round(mean["area"], 1),
            "pj_per_mac": round(mean["energy"], 3),
            "uj_per_inference": round(left * mean["energy"] / 1e6, 3),
            "digital_uj_per_inference": round(left * self.digital.energy / 1e6, 3),
            "area_factor": round(self.factor("area"), 3),
            "energy_factor": round(self.factor("energy"), 3),
            "area_factor_of_bits_alone": round(self.narrowed("area"), 3),
            "energy_factor_of_bits_alone": round(self.narrowed("energy"), 3),
            "layers": layers,
        }


def at_depth(place: int, count: int, names: Sequence[str]) -> str:
    """Return the layer at the same depth: first to first, last to last, evenly between."""
    return names[round(place / max(count - 1, 1) * (len(names) - 1))]


def rows(
    precisions: Precisions,
    chooser: Judge,
    held_out: Judge,
    result: dict[str, Any],
    goal: Goal,
    progress: Progress,
) -> list[Row]:
    """Return the network that is measured, and the five of `architectures`.

    Parameters
    ----------
    result
        What MACs take: a result of ``cells_mixed``.
    """
    table, digital = choices.costs(result), choices.digital(result)
    energy, area = WEIGHTS[goal.weigh]
    price = {
        choice: energy * cost.energy / digital.energy + area * cost.area / digital.area
        for choice, cost in table.items()
    }
    sensitive = sensitivity(precisions, chooser, table, progress)
    own = precisions.macs()
    names = list(own)
    networks: dict[str, list[tuple[str, int, str]]] = {
        precisions.graph.name: [(name, n, name) for name, n in own.items()]
    }
    for title, make in architectures.NETWORKS.items():
        layers = make()
        networks[title] = [
            (layer.name, layer.macs, at_depth(place, len(layers), names))
            for place, layer in enumerate(layers)
        ]
    known: dict[frozenset[tuple[str, int, Any]], bool] = {}
    finished = []
    for title, layers in networks.items():

        def fits(state: State, title: str = title) -> bool:
            key = frozenset((name, c.act_bits, c.coding) for name, c in state.items())
            if key not in known:
                progress(f"choosing for {title}", len(known))
                found = chooser.verdict(precisions.apply(state))
                known[key] = found.changed <= goal.budget and found.noise <= goal.noise
            return known[key]

        macs = {name: sum(n for _, n, judged in layers if judged == name) for name in names}
        chosen = choose(sensitive, price, macs, fits)
        graph = precisions.apply(chosen)
        finished.append(
            Row(
                title, tuple((name, n, chosen[judged], judged) for name, n, judged in layers),
                chooser.verdict(graph), held_out.verdict(graph), table, digital, goal.sparsity,
            )
        )  # fmt: skip
    return finished


def views(codes: Array, labels: Array | None, shift: int) -> tuple[Array, Array | None]:
    """Return every image shifted by up to so many pixels, as it is and mirrored; classes stay."""
    pad = ((0, 0), (shift, shift), (shift, shift), (0, 0))
    height, width = codes.shape[1:3]
    found = [
        padded[:, down : down + height, across : across + width]
        for image in (codes, codes[:, :, ::-1])
        for padded in [np.pad(image, pad, mode="edge")]
        for down in range(2 * shift + 1)
        for across in range(2 * shift + 1)
    ]
    return np.concatenate(found), None if labels is None else np.tile(labels, len(found))
