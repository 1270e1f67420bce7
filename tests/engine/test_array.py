"""The weight-stationary array: construction, golden model, RTL under every mixture of stalls."""

import re
from typing import Any

import numpy as np
import pytest
from amaranth.back import rtlil
from hypothesis import given, settings
from hypothesis import strategies as st

from mulfree.catalog import KINDS, spec_class
from mulfree.engine.array import ArraySpec
from mulfree.spec import Spec, SpecError
from mulfree.units.lutna import LutNASpec
from mulfree_sim import runner
from mulfree_sim.golden.array import Run, results


def array(core: dict[str, Any], **fields: Any) -> ArraySpec:
    return ArraySpec(core=Spec.from_dict({"unit": "lutna", **core}), **fields)


def test_an_accumulator_holds_a_dot_product() -> None:
    sentence = "acc_bits must be at least the dot product's 19, not 18"
    with pytest.raises(SpecError, match=f"^{re.escape(sentence)}$"):
        array({"lanes": 8}, acc_bits=18)
    assert array({"lanes": 8}, acc_bits=19).safe_beats == 1


def test_safe_beats_do_not_overflow() -> None:
    """The worst beat, as often as allowed, and once more."""
    spec = array({"act_bits": 3, "weight_bits": 3, "lanes": 2}, acc_bits=8)
    worst = np.full((1, 2), -4)

    def total(beats: int) -> int:
        last = np.arange(beats) == beats - 1
        run = Run(worst, np.repeat(worst, beats, axis=0), np.zeros(beats, np.int64), last)
        return int(results(spec, [run])[0][1][0])

    assert total(spec.safe_beats) == 32 * spec.safe_beats
    assert total(spec.safe_beats + 1) != 32 * (spec.safe_beats + 1)


def test_slots_accumulate_apart() -> None:
    spec = array({"lanes": 2}, acc_slots=2)
    act = np.array([[1, 0], [10, 0], [0, 1], [0, 10]])
    first = Run(np.array([[2, 3]]), act, np.array([0, 1, 0, 1]), np.zeros(4, bool))
    second = Run(np.array([[5, 7]]), act, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1], bool))
    assert [(slot, sums.tolist()) for slot, sums in results(spec, [first, second])] == [
        (0, [2 + 3 + 5 + 7]),
        (1, [20 + 30 + 50 + 70]),
    ]


@given(
    kind=st.sampled_from(KINDS),
    outputs=st.integers(1, 3),
    lanes=st.sampled_from([1, 2, 3, 4]),
    act_bits=st.integers(1, 8),
    act_signed=st.booleans(),
    double_buffer=st.booleans(),
    acc_slots=st.integers(1, 5),
)
@settings(max_examples=20)
def test_every_legal_combination_elaborates(kind: str, acc_slots: int, **core: Any) -> None:
    spec = ArraySpec(core=spec_class(kind)(**core), acc_bits=40, acc_slots=acc_slots)
    assert Spec.from_json(spec.to_json()) == spec
    assert rtlil.convert(spec.component())


@pytest.mark.parametrize("double_buffer", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_rtl(iverilog: str, kind: str, double_buffer: bool) -> None:
    del iverilog
    core = spec_class(kind)(
        outputs=2, lanes=4, act_bits=4, weight_bits=4, double_buffer=double_buffer
    )
    spec = ArraySpec(core=core, acc_bits=16, acc_slots=3 if double_buffer else 1)
    result = runner.regress(spec, simulator="icarus", seed=1)
    assert result.passed, result.log


@pytest.mark.parametrize("tables", ["block", "registers"])
def test_rtl_of_other_tables(iverilog: str, tables: str) -> None:
    del iverilog
    core = LutNASpec(outputs=2, lanes=2, act_bits=4, weight_bits=4, tables=tables)
    result = runner.regress(ArraySpec(core=core), simulator="icarus", seed=1)
    assert result.passed, result.log


@pytest.mark.slow
def test_rtl_at_full_size() -> None:
    spec = array({"outputs": 4, "lanes": 8}, acc_slots=16)
    result = runner.regress(spec, seed=1)
    assert result.passed, result.log
