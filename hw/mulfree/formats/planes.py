"""Signed bit planes, and the ±1 Walsh-Hadamard matrix that they are multiplied by."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def hadamard(rows: int, columns: int | None = None) -> NDArray[np.int64]:
    """Return the top left `rows` × `columns` of the natural-order Walsh-Hadamard matrix.

    ``H[i, j] = (-1)^popcount(i & j)``; fewer rows than columns crop the transform, fewer columns
    zero-pad its input.
    """
    i, j = np.indices((rows, rows if columns is None else columns))
    return 1 - 2 * (np.bitwise_count(i & j).astype(np.int64) & 1)


def signed_digits(values: ArrayLike, planes: int) -> NDArray[np.int64]:
    """Return the sign-magnitude digits −1, 0, +1 of integers, most significant plane first.

    Magnitudes saturate at ``2^planes − 1``. Shape ``(planes, *values.shape)``;
    ``Σ_p digit[p] · 2^(planes−1−p)`` is the saturated value.
    """
    x = np.asarray(values, dtype=np.int64)
    magnitude = np.minimum(np.abs(x), (1 << planes) - 1)
    places = np.arange(planes - 1, -1, -1).reshape(-1, *([1] * x.ndim))
    return np.sign(x) * ((magnitude >> places) & 1)
