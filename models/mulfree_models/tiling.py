"""Cuts a fully connected layer into what a weight-stationary array can hold at once."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.engine.array import ArraySpec
from mulfree_sim.golden.array import Run


def fully_connected(spec: ArraySpec, codes: ArrayLike, act: ArrayLike) -> Iterator[Run]:
    """Return the runs that compute ``act @ weights.T`` on an array.

    Images pass in batches of `acc_slots`, so that a tile of weights is loaded once a batch; image
    `i` of a batch gathers in slot `i`. For each batch and group of outputs, the tiles along the
    inputs follow each other and the last one sends the sums. Codes and activations that are missing
    at the edges are 0.

    Parameters
    ----------
    codes
        Weight codes, shape (outputs, inputs).
    act
        Activations, shape (images, inputs).
    """
    rows, lanes = spec.core.outputs, spec.core.lanes
    codes, act = np.asarray(codes, np.int64), np.asarray(act, np.int64)
    codes = np.pad(codes, ((0, -len(codes) % rows), (0, -codes.shape[1] % lanes)))
    act = np.pad(act, ((0, 0), (0, -act.shape[1] % lanes)))
    columns = range(0, codes.shape[1], lanes)
    for start in range(0, len(act), spec.acc_slots):
        batch = act[start : start + spec.acc_slots]
        slot = np.arange(len(batch))
        for row in range(0, len(codes), rows):
            for column in columns:
                yield Run(
                    weights=codes[row : row + rows, column : column + lanes],
                    act=batch[:, column : column + lanes],
                    slot=slot,
                    last=np.full(len(batch), column == columns[-1]),
                )


def gathered(spec: ArraySpec, sums: ArrayLike, images: int, outputs: int) -> NDArray[np.int64]:
    """Return what the array sent, in the order of `fully_connected`, as a layer's outputs.

    Parameters
    ----------
    sums
        Shape (results, spec.core.outputs).

    Returns
    -------
    Shape (images, outputs).
    """
    rows = spec.core.outputs
    groups = -(-outputs // rows)
    sums = np.asarray(sums, np.int64)
    found = np.empty((images, groups * rows), np.int64)
    done = 0
    for start in range(0, images, spec.acc_slots):
        count = min(spec.acc_slots, images - start)
        block = sums[done : done + groups * count].reshape(groups, count, rows)
        found[start : start + count] = block.transpose(1, 0, 2).reshape(count, groups * rows)
        done += groups * count
    return found[:, :outputs]


def cycles(spec: ArraySpec, outputs: int, inputs: int, images: int) -> int:
    """Return the clocks in which weights and beats enter, with a single buffer and no stall."""
    core = spec.core
    tiles = -(-outputs // core.outputs) * -(-inputs // core.lanes)
    batches = -(-images // spec.acc_slots)
    return tiles * (batches * core.outputs * core.lanes + images)
