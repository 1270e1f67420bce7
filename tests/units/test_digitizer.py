from functools import cache
from math import comb

import numpy as np
import pytest

from mulfree.formats.searchtree import best_tree
from mulfree.spec import Spec, SpecError
from mulfree.units.digitizer import DigitizerSpec
from mulfree_sim import formal, runner
from mulfree_sim.analog import Comparators, enob
from mulfree_sim.golden import digitizer as golden

SEED = 20261


def bell(levels: int, p: float) -> list[int]:
    """The distribution of a popcount, in counts of a billion."""
    n = levels - 1
    return [round(1e9 * comb(n, k) * p**k * (1 - p) ** (n - k)) for k in range(levels)]


HISTOGRAM = (tuple(bell(32, 0.25)),)
MODES = [
    DigitizerSpec(),
    DigitizerSpec(mode="flash"),
    DigitizerSpec(mode="hybrid", flash_bits=2),
    DigitizerSpec(mode="tree", histogram=HISTOGRAM),
]


def optimum(histogram: list[int]) -> float:
    """The mean depth of the optimal alphabetic tree without a limit, by plain recursion."""

    @cache
    def cost(i: int, j: int) -> int:
        if j - i == 1:
            return 0
        return sum(histogram[i:j]) + min(cost(i, t) + cost(t, j) for t in range(i + 1, j))

    return cost(0, len(histogram)) / sum(histogram)


def test_spec_errors() -> None:
    with pytest.raises(SpecError, match=r"^mode must be one of sar, flash, hybrid, tree, not 'x'$"):
        DigitizerSpec(mode="x")
    sentence = r"^flash_bits must be between 1 and 4 when mode is hybrid, not 5$"
    with pytest.raises(SpecError, match=sentence):
        DigitizerSpec(mode="hybrid", flash_bits=5)
    with pytest.raises(SpecError, match=r"^histogram must be given when mode is tree, not None$"):
        DigitizerSpec(mode="tree")
    with pytest.raises(SpecError, match=r"^histogram must have 1 row of 32, not 1 of 4$"):
        DigitizerSpec(mode="tree", histogram=[[1, 2, 3, 4]])
    with pytest.raises(SpecError, match=r"^histogram must have counts of at least 0, not -1$"):
        DigitizerSpec(mode="tree", bits=1, histogram=[[1, -1]])
    with pytest.raises(SpecError, match=r"^depth must be at least bits, 5, not 4$"):
        DigitizerSpec(mode="tree", depth=4, histogram=HISTOGRAM)
    with pytest.raises(SpecError, match=r"^depth must be left out unless mode is tree, not 9$"):
        DigitizerSpec(depth=9)


def test_spec_round_trip() -> None:
    for spec in MODES:
        assert Spec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("spec", MODES, ids=lambda spec: spec.mode)
def test_every_level_gets_its_code(spec: DigitizerSpec) -> None:
    for level in range(32):
        for inside in (0.0, 0.4, 0.999):
            assert golden.convert_level(spec, level + inside).code == level
    assert golden.convert_level(spec, -7).code == 0
    assert golden.convert_level(spec, 99).code == 31


@pytest.mark.parametrize(
    ("mode", "flash_bits", "cycles", "comparators", "comparisons"),
    [
        ("sar", 0, 5, 1, 5),
        ("hybrid", 1, 5, 1, 5),
        ("hybrid", 2, 4, 3, 6),
        ("hybrid", 3, 3, 7, 9),
        ("hybrid", 4, 2, 15, 16),
        ("flash", 0, 1, 31, 31),
    ],
)
def test_costs_of_five_bits(
    mode: str, flash_bits: int, cycles: int, comparators: int, comparisons: int
) -> None:
    spec = DigitizerSpec(mode=mode, flash_bits=flash_bits)
    assert spec.comparators == comparators
    for level in range(32):
        assert golden.convert_level(spec, level) == (level, cycles, comparisons)


@pytest.mark.parametrize(("p", "published"), [(0.5, 3.55), (0.25, 3.36), (0.125, 2.99)])
def test_unlimited_tree_is_the_optimal_alphabetic_tree(p: float, published: float) -> None:
    histogram = bell(32, p)
    depths = best_tree(histogram, 31).depths()
    average = np.dot(histogram, depths) / sum(histogram)
    assert average == pytest.approx(optimum(histogram), abs=1e-9)
    assert average == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_limited_tree_is_the_best_of_all_trees(seed: int) -> None:
    """Against every tree over 7 levels."""
    histogram = np.random.default_rng(seed).integers(0, 50, 7).tolist()

    def shapes(i: int, j: int) -> list[list[int]]:
        if j - i == 1:
            return [[0]]
        return [
            [depth + 1 for depth in (*low, *high)]
            for t in range(i + 1, j)
            for low in shapes(i, t)
            for high in shapes(t, j)
        ]

    every = shapes(0, 7)
    assert len(every) == 132  # the Catalan number C(6)
    for limit in range(3, 7):
        depths = best_tree(histogram, limit).depths()
        assert max(depths) <= limit
        best = min(np.dot(histogram, d) for d in every if max(d) <= limit)
        assert np.dot(histogram, depths) == best


def test_tree_errors() -> None:
    with pytest.raises(ValueError, match=r"^depth must be at least 3, not 2$"):
        best_tree([1] * 5, 2)
    with pytest.raises(ValueError, match=r"^histogram must have at least 2 levels, not 1$"):
        best_tree([1], 1)


def test_default_depth_costs_little() -> None:
    for p in (0.5, 0.25, 0.125):
        histogram = bell(32, p)
        spec = DigitizerSpec(mode="tree", histogram=[histogram])
        assert golden.average_comparisons(spec, histogram) <= 1.05 * optimum(histogram)


def test_enob_falls_with_noise() -> None:
    spec = DigitizerSpec()

    def converter(noise: float, mismatch: float = 0.0):
        analog = Comparators(5, 1, noise=noise, mismatch=mismatch, seed=SEED)
        return lambda level: golden.convert(spec, lambda asked: analog.decide(level, asked)).code

    ideal, half, one = (enob(converter(noise), 5) for noise in (0.0, 0.5, 1.0))
    assert ideal == pytest.approx(5, abs=0.02)
    # Noise of one decision at the last comparison adds to the error; it never helps.
    assert 3.5 < half < 4.5
    assert one < half - 0.5
    assert enob(converter(0.0, mismatch=0.3), 5) < 4.95


@pytest.mark.parametrize("spec", MODES[2:], ids=lambda spec: spec.mode)
def test_rtl(spec: DigitizerSpec) -> None:
    result = runner.regress(spec, simulator="icarus", seed=SEED)
    assert result.passed, result.log[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("mode", ["sar", "flash", "tree"])
def test_rtl_of_every_width(mode: str, bits: int) -> None:
    histogram = [bell(1 << bits, 0.3)] if mode == "tree" else None
    spec = DigitizerSpec(mode=mode, bits=bits, histogram=histogram)
    result = runner.regress(spec, simulator="icarus", seed=SEED)
    assert result.passed, result.log[-2000:]


@pytest.mark.parametrize(
    "spec",
    [
        DigitizerSpec(bits=4),
        DigitizerSpec(mode="hybrid", bits=4, flash_bits=2),
        DigitizerSpec(mode="tree", bits=2, histogram=[[9, 4, 2, 1]]),
    ],
    ids=lambda spec: spec.mode,
)
def test_codes_are_proved(spec: DigitizerSpec) -> None:
    for result in formal.prove(spec):
        assert result.proved, result.log[-2000:]
