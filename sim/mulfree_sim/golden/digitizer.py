"""Golden model of the digitisers: the search itself, and what it costs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mulfree.units.digitizer import DigitizerSpec

#: Answers of one clock: is the level at least the reference, for each (comparator, reference)?
Decide = Callable[[Sequence[tuple[int, int]]], Sequence[bool]]


class Conversion(NamedTuple):
    """A code, the clocks it took and the comparisons made for it."""

    code: int
    cycles: int
    comparisons: int


def convert(spec: DigitizerSpec, decide: Decide) -> Conversion:
    """Digitise one level by asking `decide`, once a clock."""
    if spec.mode == "tree":
        node, cycles = spec.tree.root, 0
        while True:
            (above,) = decide([(0, node)])
            cycles += 1
            then = (spec.tree.above if above else spec.tree.below)[node]
            if then == 0:
                return Conversion(node if above else node - 1, cycles, cycles)
            node = then
    place = spec.bits - spec.first_bits
    code = sum(decide([(k, (k + 1) << place) for k in range(spec.comparators)])) << place
    cycles, comparisons = 1, spec.comparators
    while place:
        place -= 1
        (above,) = decide([(0, code | 1 << place)])
        code |= above << place
        cycles, comparisons = cycles + 1, comparisons + 1
    return Conversion(code, cycles, comparisons)


def convert_level(spec: DigitizerSpec, level: float) -> Conversion:
    """Digitise a level with ideal comparators."""
    return convert(spec, lambda asked: [level >= reference for _, reference in asked])


def average_comparisons(spec: DigitizerSpec, histogram: ArrayLike) -> float:
    """Return the mean comparisons of a conversion whose levels occur as in `histogram`."""
    counts = np.asarray(histogram, dtype=np.float64)
    each = [convert_level(spec, level).comparisons for level in range(1 << spec.bits)]
    return float(counts @ each / counts.sum())
