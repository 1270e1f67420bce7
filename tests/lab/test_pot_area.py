"""The 4 × 8 array of power-of-two weights beside the best uniform arrays, on the FPGA families.

8-bit signed activations, 32-bit accumulators, weights loadable, registered; the same recipes for
both. The bounds and docs/units/pot.md belong together.
"""

from functools import cache

import pytest

from mulfree.engine.array import ArraySpec
from mulfree.units.baseline import BaselineSpec
from mulfree.units.core import CoreSpec
from mulfree.units.pot import PoTSpec
from mulfree_lab.evaluate import evaluate, technologies

pytestmark = pytest.mark.slow

#: Family -> at most this much of the best uniform array: 4 bits, 3 bits, 4 against 8 bits.
BOUNDS = {"ecp5": (0.84, 0.60, 0.48), "xc7": (0.72, 0.56, 0.40), "ice40": (0.75, 0.62, 0.43)}

SHAPE = {"outputs": 4, "lanes": 8}


@cache
def size(core: CoreSpec, target: str) -> int:
    """Return the LUT equivalents of the best structure."""
    spec = ArraySpec(core=core)
    best = evaluate(spec, technologies([target]), against=())[0].ours
    print(f"{target} {core.unit} {core.weight_bits} bits: {best.to_dict()}")
    return best.counts.lut_equivalents


@cache
def uniform(bits: int, target: str) -> int:
    """Return the smallest uniform array: the tool's own multiplier, its Booth pass, or ours."""
    forms = ("star", "booth")
    return min(size(BaselineSpec(**SHAPE, weight_bits=bits, form=form), target) for form in forms)


@pytest.mark.parametrize("target", BOUNDS)
def test_smaller_than_uniform(target):
    four, three = (size(PoTSpec(**SHAPE, weight_bits=bits), target) for bits in (4, 3))
    bounds = BOUNDS[target]
    ratios = (
        four / uniform(4, target),
        three / uniform(3, target),
        four / uniform(8, target),
    )
    print(target, [round(ratio, 3) for ratio in ratios])
    assert all(ratio <= bound for ratio, bound in zip(ratios, bounds, strict=True)), ratios


@pytest.mark.parametrize("target", BOUNDS)
def test_two_terms_cost_less_than_two_units(target):
    one, two = (size(PoTSpec(**SHAPE, terms=terms), target) for terms in (1, 2))
    assert two < 2 * one
