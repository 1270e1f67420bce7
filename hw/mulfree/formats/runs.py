"""Compressed rows of weights: the non-zero ones, each with the number of zeros before it.

An entry is a weight's code, the `run` of zeros skipped since the entry before it in the same row,
`last` on a row's last entry and `end` on the last entry of all. More zeros than a run can count are
bridged by an entry whose weight is zero; a row of zeros is one such entry.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Compressed:
    """The entries of a matrix, row after row.

    Members
    -------
    values : (entries,), int64
        Weights.
    runs : (entries,), int64
        Zeros skipped before each.
    last, end : (entries,), bool
        Ends a row; ends the matrix.
    """

    values: NDArray[np.int64]
    runs: NDArray[np.int64]
    last: NDArray[np.bool_]
    end: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of entries, which is the number of clocks that they take."""
        return len(self.values)


def compress(matrix: ArrayLike, run_bits: int) -> Compressed:
    """Return the entries of a matrix of integers, shape (rows, columns).

    Raises
    ------
    ValueError
        The matrix is empty or not a matrix, or `run_bits` is not in 1…16.
    """
    rows = np.asarray(matrix, dtype=np.int64)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"matrix must have rows and columns, not shape {rows.shape}")
    if not 1 <= run_bits <= 16:
        raise ValueError(f"run_bits must be between 1 and 16, not {run_bits}")
    reach = 1 << run_bits
    values: list[int] = []
    runs: list[int] = []
    last: list[bool] = []
    for row in rows:
        at = 0
        for column in np.flatnonzero(row).tolist():
            bridges, run = divmod(column - at, reach)
            values += [0] * bridges + [int(row[column])]
            runs += [reach - 1] * bridges + [run]
            last += [False] * (bridges + 1)
            at = column + 1
        if not at:
            values, runs, last = [*values, 0], [*runs, 0], [*last, False]
        last[-1] = True
    end = [False] * (len(values) - 1) + [True]
    return Compressed(np.array(values), np.array(runs), np.array(last), np.array(end))


def positions(entries: Compressed) -> NDArray[np.int64]:
    """Return the column of every entry."""
    steps = entries.runs + 1
    total = np.cumsum(steps)
    starts = np.concatenate([[0], np.flatnonzero(entries.last)[:-1] + 1])
    lengths = np.diff(np.concatenate([starts, [len(entries)]]))
    before = np.repeat(total[starts] - steps[starts], lengths)
    return total - before - 1


def expand(entries: Compressed, columns: int) -> NDArray[np.int64]:
    """Return the matrix that `compress` was given."""
    row = np.cumsum(entries.last) - entries.last
    matrix = np.zeros((int(row[-1]) + 1, columns), np.int64)
    # A bridge stands where a zero is.
    matrix[row, positions(entries)] = entries.values
    return matrix
