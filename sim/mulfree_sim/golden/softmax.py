"""TFLite's 8-bit softmax, bit for bit, as the host computes it behind a network.

Source: ``tensorflow/lite/kernels/internal/reference/softmax.h`` and ``gemmlowp/fixedpoint``. A
number with i integer bits is ``raw / 2^(31 - i)``.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree_sim.golden.requantizer import saturating_rounding_doubling_high_mul as times
from mulfree_sim.golden.rounding import saturate, shift_half_away

Array = NDArray[np.int64]

#: Integer bits of the scaled differences and of the sum.
DIFF_BITS, SUM_BITS = 5, 12
#: exp(-2^(k - 2)) with no integer bits, for k = 0, 1, …
EXPONENTIALS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def _exp_small(a: Array) -> Array:
    """Return exp(a) for -1/4 ≤ a < 0: Taylor's series around -1/8, to the fourth power."""
    x = a + (1 << 28)
    x2 = times(x, x)
    x3, x4 = times(x2, x), times(x2, x2)
    third = times(shift_half_away(x4, 2) + x3, 715827883)
    rest = shift_half_away(third + x2, 1)
    at = 1895147668
    return at + times(at, x + rest)


def exp_on_negative_values(a: ArrayLike) -> Array:
    """Return exp(a), no integer bits, of a ≤ 0 with `DIFF_BITS` integer bits."""
    a = np.asarray(a, np.int64)
    quarter = 1 << 24
    low = (a & (quarter - 1)) - quarter
    result = _exp_small(saturate(low << DIFF_BITS, 32))
    remainder = low - a
    for place, factor in enumerate(EXPONENTIALS):
        result = np.where(remainder & (1 << (24 + place)), times(result, factor), result)
    return np.where(a == 0, (1 << 31) - 1, result)


def one_over_one_plus(a: ArrayLike) -> Array:
    """Return 1 / (1 + a) of 0 ≤ a < 1: three steps of Newton and Raphson."""
    half = (np.asarray(a, np.int64) + (1 << 31)) >> 1
    x = 1515870810 + times(half, -1010580540)
    for _ in range(3):
        x = x + saturate(times(x, (1 << 29) - times(half, x)) << 2, 32)
    return saturate(x << 1, 32)


def softmax(codes: ArrayLike, scale: float, beta: float = 1.0) -> Array:
    """Return the output codes (scale 1/256, zero point -128) of input codes, shape (..., classes).

    Parameters
    ----------
    scale
        Of the input.
    """
    codes = np.asarray(codes, np.int64)
    real = min(beta * scale * (1 << (31 - DIFF_BITS)), (1 << 31) - 1.0)
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    radius = math.floor(((1 << DIFF_BITS) - 1) * (1 << (31 - DIFF_BITS)) / (1 << shift))
    diff = codes - codes.max(axis=-1, keepdims=True)
    counts = diff >= -radius
    exps = exp_on_negative_values(times(np.where(counts, diff, 0) << shift, multiplier))
    total = np.where(counts, shift_half_away(exps, SUM_BITS), 0).sum(axis=-1, keepdims=True)
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    scaled = one_over_one_plus((total << headroom) - (1 << 31))
    found = shift_half_away(times(scaled, exps), SUM_BITS - headroom + 31 - 8)
    return np.where(counts, np.clip(found - 128, -128, 127), -128)
