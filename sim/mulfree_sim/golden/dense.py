"""Golden model of the fully connected layer: the array's, then the requantizer's."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mulfree.engine.dense import DenseSpec
from mulfree_sim.golden import array, requantizer
from mulfree_sim.golden.array import Run
from mulfree_sim.golden.requantizer import ChannelParameters


def results(
    spec: DenseSpec,
    runs: Iterable[Run],
    parameters: ChannelParameters,
    zero_point: int,
    low: int,
    high: int,
) -> NDArray[np.int64]:
    """Return what the layer sends, shape (results, outputs).

    Channels beyond the layer's last one get outputs of 0 here, and any in hardware.
    """
    sent = array.results(spec.array, runs)
    count, rows = len(parameters.bias), spec.core.outputs
    groups = -(-count // rows)
    found = np.zeros((len(sent), rows), np.int64)
    group = groups - 1
    for place, (slot, sums) in enumerate(sent):
        if slot == 0:
            group = (group + 1) % groups
        here = slice(group * rows, min(group * rows + rows, count))
        own = ChannelParameters(
            parameters.bias[here], parameters.multiplier[here], parameters.shift[here]
        )
        width = here.stop - here.start
        found[place, :width] = requantizer.requantize(
            spec.requantizer, sums[:width], own, zero_point, low, high
        )
    return found
