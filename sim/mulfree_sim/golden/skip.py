"""Golden model of the zero-skipping unit."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.formats import Int
from mulfree.formats.runs import Compressed, positions
from mulfree.units.skip import SkipSpec


def sums(spec: SkipSpec, entries: Compressed, act: ArrayLike) -> NDArray[np.int64]:
    """Return ``Σ value · act[position]`` of every row, modulo 2^acc_bits, shape (rows,).

    Parameters
    ----------
    act
        One vector.
    """
    x = spec.act_format.check(act, "act")
    values = spec.weight_format.check(entries.values, "weights")
    products = values * x[positions(entries)]
    starts = np.concatenate([[0], np.flatnonzero(entries.last)[:-1] + 1])
    return Int(spec.acc_bits).decode(np.add.reduceat(products, starts).astype(np.uint64))


def cycles(entries: Iterable[Compressed]) -> int:
    """Return the clocks from the first entry offered to the last sum, when nobody waits.

    One an entry, and two more for the product and the sum.
    """
    return sum(map(len, entries)) + 2
