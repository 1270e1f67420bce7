"""Power-of-two cores: construction, every code and activation, every structure, constants."""

import re
from typing import Any

import numpy as np
import pytest
from amaranth.back import rtlil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mulfree import emit
from mulfree.engine.array import ArraySpec
from mulfree.spec import Spec, SpecError
from mulfree.units.pot import PoTSpec
from mulfree_sim import runner

SIMULATOR = "icarus" if runner.available("icarus") else "verilator"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"weight_bits": 7}, "weight_bits must be between 2 and 6, not 7"),
        ({"terms": 3}, "terms must be between 1 and 2, not 3"),
        ({"structure": "lut5"}, "structure must be one of lut4, lut6, not 'lut5'"),
        ({"lanes": 8, "pipeline": 4}, "pipeline must be at most the tree's 3, not 4"),
        (
            {"lanes": 2, "reduce": "chain", "pipeline": 3},
            "pipeline must be at most the chain's 2, not 3",
        ),
        (
            {"weights": "constant", "matrix": [[3]]},
            "matrix entries must be 0 or ± a power of two up to 64, not 3",
        ),
        (
            {"weights": "constant", "matrix": [[4]], "reduce": "chain"},
            "reduce must be tree when weights is constant, not chain",
        ),
    ],
)  # fmt: skip
def test_illegal_combination(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=f"^{re.escape(sentence)}$"):
        PoTSpec(**fields)


def test_derived_parameters():
    spec = PoTSpec(outputs=4, lanes=8)
    assert spec.weight_range == (-64, 64)
    assert (spec.product_bits, spec.dot_bits, spec.latency, spec.hold) == (15, 18, 5, 1)
    chain = PoTSpec(outputs=4, lanes=8, structure="lut6", reduce="chain")
    assert (chain.pipeline, chain.latency, chain.hold) == (2, 4, 3)
    assert PoTSpec(terms=2, lanes=8).pipeline == 4
    assert Spec.from_json(chain.to_json()) == chain


def test_variants_have_the_same_function():
    spec = PoTSpec(lanes=4, weight_bits=5)
    found = spec.variants()
    assert found[0] == spec
    assert {(v.structure, v.reduce) for v in found if isinstance(v, PoTSpec)} == {
        ("lut4", "tree"), ("lut6", "tree"), ("lut6", "chain"),
    }  # fmt: skip
    kept = spec.variants(frozenset({"structure"}))
    assert {v.structure for v in kept if isinstance(v, PoTSpec)} == {"lut4"}


def passes(spec: Spec, seed: int = 1) -> None:
    result = runner.regress(spec, simulator=SIMULATOR, seed=seed)
    assert result.passed, result.log[-3000:]


@pytest.mark.parametrize(
    ("weight_bits", "structure"),
    [
        (4, "lut4"),
        (4, "lut6"),
        *(
            pytest.param(bits, structure, marks=pytest.mark.slow)
            for bits in (2, 3, 5, 6)
            for structure in ("lut4", "lut6")
        ),
    ],
)
def test_every_code_times_every_activation(weight_bits, structure):
    """All of 8 bits; `tests.arith.test_shifters` tries every width, without the core around it."""
    passes(PoTSpec(weight_bits=weight_bits, structure=structure))


@pytest.mark.parametrize(
    "fields",
    [
        {"terms": 2, "weight_bits": 3},
        {"terms": 2, "weight_bits": 2, "act_bits": 1, "reduce": "chain", "pipeline": 2},
        {"terms": 2, "lanes": 3, "outputs": 2, "structure": "lut6", "reduce": "chain"},
        {"lanes": 8, "outputs": 4, "structure": "lut6", "reduce": "chain"},
        {"lanes": 5, "outputs": 2, "act_signed": False, "double_buffer": True},
        {"lanes": 5, "structure": "lut6", "reduce": "chain", "pipeline": 0, "double_buffer": True},
        {"lanes": 3, "weight_bits": 6, "act_bits": 16, "pipeline": 0},
        {"act_bits": 1, "lanes": 2},
        {"weights": "constant", "matrix": [[-64, 0, 4, 1], [0, 0, 0, 0]], "lanes": 4, "outputs": 2},
        {"weights": "constant", "matrix": [[-5, 12]], "lanes": 2, "terms": 2, "act_signed": False},
    ],
    ids=str,
)
def test_equals_golden(fields):
    passes(PoTSpec(**fields))


@st.composite
def specs(draw: st.DrawFn) -> PoTSpec:
    """Every legal combination of parameters, sizes kept small."""
    outputs, lanes, terms = (draw(st.integers(1, n)) for n in (2, 5, 2))
    reduce = draw(st.sampled_from(["tree", "chain"]))
    operands = lanes * terms
    depth = operands if reduce == "chain" else max(1, (operands - 1).bit_length())
    common = {
        "outputs": outputs,
        "lanes": lanes,
        "terms": terms,
        "act_bits": draw(st.integers(1, 16)),
        "act_signed": draw(st.booleans()),
        "weight_bits": draw(st.integers(2, 6)),
        "structure": draw(st.sampled_from(["lut4", "lut6"])),
        "pipeline": draw(st.integers(-1, depth)),
    }
    spec = PoTSpec(**common, reduce=reduce, double_buffer=draw(st.booleans()))
    if reduce == "tree" and draw(st.booleans()):
        values = st.sampled_from(spec.weight_format.values().tolist())
        row = st.lists(values, min_size=lanes, max_size=lanes)
        matrix = draw(st.lists(row, min_size=outputs, max_size=outputs))
        return PoTSpec(**common, weights="constant", matrix=matrix)
    return spec


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs())
def test_every_legal_combination_elaborates(spec):
    assert Spec.from_json(spec.to_json()) == spec
    component = spec.component()
    assert [port["name"] for port in emit.ports(component)][:2] == ["en", "act"]
    assert "result" in rtlil.convert(component)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs())
def test_every_legal_combination_equals_golden(spec):
    passes(spec)


@pytest.mark.parametrize("buffered", [False, True])
def test_array_of_power_of_two_products(buffered):
    core = PoTSpec(outputs=2, lanes=3, double_buffer=buffered)
    passes(ArraySpec(core=core, acc_bits=24, acc_slots=3))


def test_same_bytes_twice():
    spec = PoTSpec(outputs=2, lanes=2)
    assert emit.to_verilog(spec) == emit.to_verilog(spec)
    assert " * " not in emit.to_verilog(spec).split("\n\n", 1)[1]


def test_bits_of_a_word():
    """The load stream carries the first term in the low bits."""
    spec = PoTSpec(terms=2)
    assert spec.weight_shape.width == 8
    assert np.array_equal(spec.weight_format.decode([0x19, 0x91]), [0, 0])  # 1 - 1 both ways
    assert np.array_equal(spec.weight_format.decode([0x07, 0x70, 0xF8]), [64, 64, -64])


@pytest.mark.skipif(not runner.available("icarus"), reason="Icarus is not installed")
@pytest.mark.parametrize(
    "fields",
    [
        {"lanes": 2, "act_signed": False},
        {"lanes": 3, "act_bits": 4},
        {"lanes": 1, "terms": 2, "weight_bits": 3},
    ],
)
def test_carry_save_form(fields: dict[str, Any]) -> None:
    found = runner.regress(PoTSpec(outputs=2, reduce="carry-save", **fields), simulator="icarus")
    assert found.passed, found.log
