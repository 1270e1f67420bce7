"""Compressed rows: round trips, bridges, errors."""

import numpy as np
import pytest

from mulfree.formats.runs import compress, expand, positions


@pytest.mark.parametrize("run_bits", [1, 2, 4, 16])
@pytest.mark.parametrize("density", [0.0, 0.03, 0.5, 1.0])
def test_round_trips(run_bits, density):
    rng = np.random.default_rng(5)
    matrix = rng.integers(1, 9, (7, 90)) * (rng.random((7, 90)) < density)
    entries = compress(matrix, run_bits)
    assert np.array_equal(expand(entries, 90), matrix)
    assert entries.last.sum() == 7
    assert entries.end.tolist() == [False] * (len(entries) - 1) + [True]
    assert entries.runs.max() < 1 << run_bits


def test_entries():
    entries = compress([[0, 0, 5, 0, 6], [0, 0, 0, 0, 0], [7, 0, 0, 0, 0]], 2)
    assert entries.values.tolist() == [5, 6, 0, 7]
    assert entries.runs.tolist() == [2, 1, 0, 0]
    assert entries.last.tolist() == [False, True, True, True]
    assert positions(entries).tolist() == [2, 4, 0, 0]


def test_a_bridge_where_a_run_cannot_reach():
    entries = compress([[0] * 9 + [3]], 2)
    assert entries.values.tolist() == [0, 0, 3]
    assert entries.runs.tolist() == [3, 3, 1]
    assert positions(entries).tolist() == [3, 7, 9]


def test_errors():
    with pytest.raises(ValueError, match=r"^matrix must have rows and columns, not shape \(3,\)$"):
        compress([1, 2, 3], 4)
    with pytest.raises(ValueError, match=r"^run_bits must be between 1 and 16, not 0$"):
        compress([[1]], 0)
