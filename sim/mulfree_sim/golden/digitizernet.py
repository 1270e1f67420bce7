"""Golden model of a group of arrays that digitise for each other."""

from collections.abc import Sequence
from typing import NamedTuple

from mulfree.units.digitizernet import DigitizerNetSpec
from mulfree_sim.analog import Comparators
from mulfree_sim.golden import digitizer


class Phase(NamedTuple):
    """Vector k's phase: the array that computes it, its clocks, and the code found meanwhile."""

    array: int
    clocks: int
    found: digitizer.Conversion | None


def run(
    spec: DigitizerNetSpec, levels: Sequence[float], analog: Comparators | None = None
) -> list[Phase]:
    """Return the phases of vectors that follow each other without a pause, then of the last round.

    ``levels[k]`` is the product-sum of vector k. Array ``k mod arrays`` computes it in phase k, and
    its neighbours digitise it in phase ``k + arrays``. `analog` has a comparator for each array.
    """
    analog = analog or Comparators(spec.bits, spec.arrays)
    phases = []
    for k in range(len(levels) + spec.arrays):
        turn = k % spec.arrays
        found = None
        if k >= spec.arrays:
            level = levels[k - spec.arrays]
            found = digitizer.convert(
                spec,
                lambda asked, level=level, turn=turn: analog.decide(
                    level, [((turn + 1 + j) % spec.arrays, code) for j, code in asked]
                ),
            )
        clocks = max(spec.compute_cycles if k < len(levels) else 1, found.cycles if found else 0)
        phases.append(Phase(turn, clocks, found))
    return phases
