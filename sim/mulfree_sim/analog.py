"""Behavioural model of the analog side: capacitor DACs, comparators, and what they do to
resolution.

A level is a real number in 0…2^bits, in steps of the code (LSB). Everything is seeded.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


class Comparators:
    """Comparators, each with a DAC of `2^bits` unit capacitors on the bit lines of its array.

    Parameters
    ----------
    mismatch
        Standard deviation of a unit capacitor, relative.
    offset
        Standard deviation of a comparator's fixed offset, in LSB.
    noise
        Standard deviation of the noise of one decision, in LSB.
    """

    def __init__(
        self,
        bits: int,
        count: int,
        *,
        mismatch: float = 0.0,
        offset: float = 0.0,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._random = np.random.default_rng(seed)
        units = 1 << bits
        capacitors = 1 + mismatch * self._random.standard_normal((count, units))
        charged = np.concatenate([np.zeros((count, 1)), capacitors.cumsum(axis=1)], axis=1)
        #: The level that each comparator's DAC makes of each code, shape (count, 2^bits + 1).
        self.levels = charged / charged[:, -1:] * units
        #: Each comparator's offset.
        self.offsets = offset * self._random.standard_normal(count)
        self._noise = noise

    def above(self, level: float, comparator: int, reference: int) -> bool:
        """Decide whether a level is at least the reference; each call draws new noise."""
        noise = self._noise * self._random.standard_normal() if self._noise else 0.0
        threshold = self.levels[comparator, reference] + self.offsets[comparator]
        return bool(level + noise >= threshold)

    def decide(self, level: float, asked: Sequence[tuple[int, int]]) -> list[bool]:
        """Return the decisions of (comparator, reference) pairs, in that order."""
        return [self.above(level, comparator, reference) for comparator, reference in asked]


def enob(convert: Callable[[float], int], bits: int, samples: int = 4096, seed: int = 0) -> float:
    """Return the effective number of bits of a converter over the whole range.

    ``log2(2^bits / (√12 · rms error))`` for levels spread evenly over 0…2^bits, the code standing
    for the middle of its step: `bits` for an ideal converter, whose error is uniform over one step.
    """
    random = np.random.default_rng(seed)
    levels: NDArray[np.float64] = (np.arange(samples) + random.random(samples)) / samples * 2**bits
    errors = np.array([convert(float(level)) + 0.5 - level for level in levels])
    return float(bits - np.log2(np.sqrt(12 * np.mean(errors**2))))
