"""Golden model of the bit-plane array."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.formats.planes import hadamard, signed_digits
from mulfree.units.bitplane import BitPlaneSpec


class Outcome(NamedTuple):
    """What the array returns and what it cost.

    `result` and `row_planes` have shape (..., outputs): the soft-thresholded results and the planes
    each row took. `array_planes` (...) is the planes of the slowest row, the time of the array.
    """

    result: NDArray[np.int64]
    row_planes: NDArray[np.int64]
    array_planes: NDArray[np.int64]


def soft_threshold(x: NDArray[np.int64], threshold: ArrayLike) -> NDArray[np.int64]:
    """Return ``sign(x) · max(|x| − T, 0)``."""
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


def plane_sums(
    spec: BitPlaneSpec, act: ArrayLike, merge: int = 0, share: int = 0
) -> NDArray[np.int64]:
    """Return ``Σ H·d`` of every plane and row, top plane first: (planes, ..., outputs)."""
    x = np.asarray(act, dtype=np.int64)
    lead = x.shape[:-1]
    # Groups of transforms that share an input, the transforms, their points.
    x = x.reshape(*lead, -1, 1 << share, spec.columns << merge)
    x = np.broadcast_to(x[..., :1, :], x.shape)
    H = hadamard(spec.rows << merge, spec.columns << merge)
    return (signed_digits(x, spec.planes) @ H.T).reshape(spec.planes, *lead, spec.outputs)


def transform(
    spec: BitPlaneSpec,
    act: ArrayLike,
    threshold: ArrayLike,
    merge: int = 0,
    share: int = 0,
    terminate: bool = True,
) -> Outcome:
    """Return the array's results and the planes that they took.

    Parameters
    ----------
    act
        Shape (..., inputs).
    threshold
        Shape (outputs,).
    merge, share
        How the tiles are stitched; ``merge + share`` at most `spec.levels`.
    terminate
        Stop rows early. It changes the planes, never the result.
    """
    T = np.asarray(threshold, dtype=np.int64)
    sums = plane_sums(spec, act, merge, share)
    digits = sums if spec.exact else np.sign(sums)
    g = spec.weight_of_plane(merge)
    S = np.zeros(digits.shape[1:], dtype=np.int64)
    taken = np.zeros_like(S)
    active = np.ones(S.shape, dtype=bool)
    for b in range(spec.planes, -1, -1):  # b planes are still to come
        if terminate:
            active = active & (np.abs(S) + g * ((1 << b) - 1) > T)
        if b:
            S = np.where(active, S + (digits[spec.planes - b] << (b - 1)), S)
            taken = taken + active
    result = np.where(active, soft_threshold(S, T), 0)
    return Outcome(result, taken, taken.max(axis=-1))
