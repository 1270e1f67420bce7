"""Golden model of the weight-stationary array."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mulfree.engine.array import ArraySpec
from mulfree.formats import Int
from mulfree_sim import golden


@dataclass(frozen=True)
class Run:
    """A tile of weights and the beats that it serves.

    Members
    -------
    weights : (outputs, lanes)
    act : (beats, lanes)
    slot, last : (beats,)
    """

    weights: NDArray[np.int64]
    act: NDArray[np.int64]
    slot: NDArray[np.int64]
    last: NDArray[np.bool_]


def results(spec: ArraySpec, runs: Iterable[Run]) -> list[tuple[int, NDArray[np.int64]]]:
    """Return what the array sends: (slot, sums of every output), in order.

    ``acc[slot] += W · act`` for each beat, modulo 2^acc_bits; sent and cleared at `last`.
    """
    wrap = Int(spec.acc_bits)
    matvec = golden.model(spec.core).matvec
    acc = np.zeros((spec.acc_slots, spec.core.outputs), np.int64)
    sent = []
    for run in runs:
        dots = matvec(spec.core, run.weights, run.act)
        for dot, slot, last in zip(dots, run.slot, run.last, strict=True):
            acc[slot] += dot
            if last:
                sent.append((int(slot), wrap.decode(acc[slot].astype(np.uint64))))
                acc[slot] = 0
    return sent
