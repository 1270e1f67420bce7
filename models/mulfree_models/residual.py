"""The tables with which the engine adds two activations: exactly, with few bits.

What a file says of a sum is ``out = round((a' + b') · factor)``, a' and b' being activations that
were scaled and rounded themselves. The engine looks up one number for each activation and drops
the low bits of their sum. Whether such numbers exist, and which, is a question about differences:
for every pair ``low ≤ own[a] − (−kept[b]) ≤ high``, and shortest paths answer it (Cormen et al.,
Introduction to Algorithms, "Difference constraints and shortest paths"; Bellman and Ford). The
bounds are multiples of 2^fraction but for the upper ones' −1, and a cycle has no more upper ones
than there are activations: with as many bits of fraction as an activation has, integers do as well
as real numbers would.
"""

import numpy as np
from numpy.typing import NDArray

from mulfree_sim.golden.requantizer import multiply_by_quantized_multiplier

Array = NDArray[np.int64]


def exact(wanted: Array, low: int, high: int, fraction: int) -> tuple[Array, Array] | None:
    """Return tables with ``clip((own[a] + kept[b]) >> fraction, low, high) == wanted[a, b]``.

    Parameters
    ----------
    wanted : (n, n), int64
        From `low` to `high`.

    Returns
    -------
    (n,) and (n,), int64, or None where there are none. The larger one's range is as small as a
    common offset makes it.
    """
    endless = 1 << 40
    lower = np.where(wanted > low, wanted << fraction, -endless)
    upper = np.where(wanted < high, ((wanted + 1) << fraction) - 1, endless)
    own, minus = np.zeros((2, len(wanted)), np.int64)
    for _ in range(2 * len(wanted)):
        before = own, minus
        own = np.minimum(own, (minus + upper).min(axis=1))
        minus = np.minimum(minus, (own[:, None] - lower).min(axis=0))
        if (before[0] == own).all() and (before[1] == minus).all():
            middle = (own.max() + own.min() + minus.max() + minus.min()) // 4
            return own - middle, middle - minus
    return None


def tables(
    own: Array, kept: Array, factor: tuple[int, int], zero_point: int, low: int, high: int,
    *, rounding: str,
) -> tuple[Array, Array, int] | None:  # fmt: skip
    """Return the tables of ``clip(round((own + kept) · factor) + zero_point, low, high)``.

    Parameters
    ----------
    own, kept : (2^bits,), int64
        The scaled activations, each at the place of its bit pattern.
    factor
        Multiplier and shift, as TFLite has them.

    Returns
    -------
    Both tables and their bits of fraction, or None where there are none. Up to 8 bits entries have
    three times the bits of an activation: from one activation to the next a sum need not change by
    more than its whole range. With more bits, which only the golden model runs and which are
    rounded once, the tables hold whole products.
    """
    bits = len(own).bit_length() - 1
    if bits > 8:
        multiplier, shift = factor
        fraction = 31 - shift
        start = (1 << (fraction - 1)) + (zero_point << fraction)
        return own * multiplier + start, kept * multiplier, fraction
    sums = own[:, None] + kept
    wanted = multiply_by_quantized_multiplier(sums, *factor, rounding) + zero_point
    found = exact(np.clip(wanted, low, high), low, high, bits)
    return None if found is None else (*found, bits)
