"""Tests of the tables with which the engine adds two activations."""

import math
from itertools import product

import numpy as np
import pytest

from mulfree_models.reference import add_term
from mulfree_models.residual import exact, tables
from mulfree_sim.golden.requantizer import multiply_by_quantized_multiplier

VALUES = np.arange(-128, 128)
#: Scales of both terms and of the sum, as ratios; those with ties for their sum are the hard ones.
RATIOS = {
    "any": np.exp(np.random.default_rng(3).uniform(-2, 2, (8, 3))),
    "powers of two": 2.0 ** np.random.default_rng(4).integers(-3, 4, (8, 3)),
    "equal": [(1, 1, 1), (1, 1, 2), (1, 1, 4)],
    "quarters": [(1, 4, 8), (4, 1, 4)],
}


def quantized(factor: float) -> tuple[int, int]:
    """Return a multiplier and its shift, as TFLite has them."""
    mantissa, shift = math.frexp(factor)
    return round(mantissa * 2**31), shift


@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize("ratios", RATIOS)
def test_every_pair(ratios, rounding):
    rng = np.random.default_rng(7)
    for relu, (a, b, out) in product((False, True), RATIOS[ratios]):
        twice = 2 * max(a, b)
        zeros = rng.integers(-128, 128, 3).tolist()
        terms = [
            add_term(VALUES, zero, 20, quantized(scale / twice), rounding)
            for zero, scale in zip(zeros[:2], (a, b), strict=True)
        ]
        factor = quantized(twice / (out * 2**20))
        low = zeros[2] if relu else -128
        found = tables(*terms, factor, zeros[2], low, 127, rounding=rounding)
        assert found is not None
        own, kept, fraction = found
        assert fraction == 8
        sums = terms[0][:, None] + terms[1]
        wanted = multiply_by_quantized_multiplier(sums, *factor, rounding) + zeros[2]
        got = (own[:, None] + kept) >> fraction
        assert (got.clip(low, 127) == wanted.clip(low, 127)).all()
        assert max(np.abs(own).max(), np.abs(kept).max()) < 1 << 23


def test_what_no_tables_give():
    """An exclusive or is no function of a sum of two numbers."""
    assert exact(np.array([[0, 1], [1, 0]]), 0, 3, 1) is None
    assert exact(np.array([[0, 1], [1, 2]]), 0, 3, 1) is not None


@pytest.mark.parametrize("factors", [(1000, 999), (1000, -999), (513, 512), (-256, 255)])
def test_next_to_nothing_left_of_two_large_terms(factors):
    """The widest entries are those of terms that cancel each other."""
    a, b = (VALUES * factor for factor in factors)
    found = tables(a, b, (1 << 30, 1), 0, -128, 127, rounding="single")
    assert found is not None
    own, kept, fraction = found
    wanted = (a[:, None] + b).clip(-128, 127)
    assert (((own[:, None] + kept) >> fraction).clip(-128, 127) == wanted).all()
    assert max(np.abs(own).max(), np.abs(kept).max()) < 1 << 23
