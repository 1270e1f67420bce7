"""Transforms of maps by rows and columns: construction, golden model, RTL."""

import numpy as np
import pytest

from mulfree.spec import SpecError
from mulfree.units.wht import WHT2DSpec
from mulfree_sim import runner
from mulfree_sim.golden import wht as golden

SEED = 2


def test_map_errors() -> None:
    with pytest.raises(SpecError, match=r"^points must be between 2 and 4096 in all, not 8192$"):
        WHT2DSpec(height=65, width=64)
    with pytest.raises(SpecError, match=r"^samples_per_cycle must divide 6 samples, not be 4$"):
        WHT2DSpec(height=6, width=6, form="streaming", samples_per_cycle=4)


def test_runs() -> None:
    assert WHT2DSpec(height=7, width=5).runs == [(5, 8), (7, 8)]


def test_map_by_rows_and_columns() -> None:
    rng = np.random.default_rng(SEED)
    spec = WHT2DSpec(height=7, width=5)
    x = rng.integers(-128, 128, (10, 7, 5))
    wide = np.zeros((10, 8, 8), np.int64)
    wide[:, :7, :5] = x
    H = golden.hadamard(8)
    y = golden.transform(spec, x.reshape(10, 35))
    assert np.array_equal(y.reshape(10, 8, 8), H @ wide @ H)
    inverse = WHT2DSpec(height=7, width=5, bits=spec.result_bits, direction="inverse")
    assert np.array_equal(golden.transform(inverse, y), x.reshape(10, 35))


def test_rtl_of_a_map() -> None:
    spec = WHT2DSpec(height=3, width=6, bits=5, form="streaming", samples_per_cycle=2)
    result = runner.regress(spec, simulator="icarus", seed=SEED)
    assert result.passed, result.log[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        WHT2DSpec(height=7, width=7, form="parallel"),
        WHT2DSpec(height=14, width=14, form="folded", samples_per_cycle=2),
        WHT2DSpec(height=28, width=28, form="serial"),
    ],
    ids=lambda spec: f"{spec.form}-{spec.height}x{spec.width}",
)
def test_rtl_at_size(spec: WHT2DSpec) -> None:
    result = runner.regress(spec, seed=SEED)
    assert result.passed, result.log[-2000:]
