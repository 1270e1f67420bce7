"""The zero-skipping unit: construction, streams, clocks, the same sums as the dense core."""

import re
from typing import Any

import numpy as np
import pytest

from mulfree.formats.runs import compress
from mulfree.spec import Spec, SpecError
from mulfree.units.pot import PoTSpec
from mulfree.units.skip import SkipSpec
from mulfree_sim import runner
from mulfree_sim.golden import pot, skip

SIMULATOR = "icarus" if runner.available("icarus") else "verilator"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"weight_bits": 7}, "weight_bits must be at most 6 when product is pot, not 7"),
        ({"product": "shift"}, "product must be one of pot, uniform, not 'shift'"),
        ({"acc_bits": 14}, "acc_bits must be at least the product's 15, not 14"),
        ({"inputs": 0}, "inputs must be between 1 and 4096, not 0"),
    ],
)
def test_illegal_combination(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=f"^{re.escape(sentence)}$"):
        SkipSpec(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"product": "uniform", "weight_bits": 8},
        {"weight_bits": 6, "act_bits": 4, "act_signed": False, "run_bits": 1, "acc_bits": 50},
        {"weight_bits": 2, "act_bits": 1, "inputs": 1, "acc_bits": 4},
        {"weight_bits": 3, "act_bits": 16, "inputs": 100, "run_bits": 7, "acc_bits": 20},
    ],
    ids=str,
)
def test_equals_golden(fields):
    spec = SkipSpec(**fields)
    assert Spec.from_json(spec.to_json()) == spec
    result = runner.regress(spec, simulator=SIMULATOR, seed=2)
    assert result.passed, result.log[-3000:]


def test_same_sums_as_the_dense_unit():
    rng = np.random.default_rng(6)
    dense = PoTSpec(outputs=10, lanes=64)
    matrix = rng.choice(dense.weight_format.values(), (10, 64)) * (rng.random((10, 64)) < 0.4)
    act = rng.integers(-128, 128, 64)
    found = skip.sums(SkipSpec(), compress(matrix, 4), act)
    assert np.array_equal(found, pot.matvec(dense, matrix, act))
