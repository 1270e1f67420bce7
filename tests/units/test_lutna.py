"""LUT-NA: construction, every form against the golden model, exact error statistics."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from amaranth.back import rtlil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mulfree.spec import Spec, SpecError
from mulfree.units.lutna import ADDRESS_BITS, LutNASpec
from mulfree_sim import bank, runner
from mulfree_sim.golden import baseline
from mulfree_sim.golden.lutna import error_statistics, matvec


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"act_bits": 3, "digit_bits": 4},
            "digit_bits must be at most act_bits (3), not 4",
        ),
        ({"digit_bits": 5}, "digit_bits must be 1 to 4, or act_bits (8), not 5"),
        ({"lanes": 3, "table_lanes": 3}, "table_lanes must be 1, 2, 4 or 8, not 3"),
        ({"lanes": 6, "table_lanes": 4}, "table_lanes must divide lanes (6), not 4"),
        (
            {"lanes": 2, "table_lanes": 2, "tables": "registers"},
            "table_lanes must be 1 for registers tables, not 2",
        ),
        (
            {"lanes": 2, "table_lanes": 2, "split_weight": 2},
            "table_lanes must be 1 for split tables, not 2",
        ),
        (
            {"lanes": 8, "table_lanes": 8, "digit_bits": 2},
            "digit_bits × table_lanes must be at most 8 for distributed tables, not 16",
        ),
        (
            {"act_bits": 13, "digit_bits": 13, "tables": "block"},
            "digit_bits × table_lanes must be at most 12 for block tables, not 13",
        ),
        ({"split_weight": 2, "storage": "odd"}, "storage must be full for split tables, not odd"),
        (
            {"digit_bits": 1, "storage": "odd"},
            "storage must be full when digit_bits is 1 or table_lanes above 1, not odd",
        ),
        (
            {"weights": "constant", "matrix": [[1]], "split_weight": 2},
            "split_weight must be 0 when weights is constant, not 2",
        ),
        (
            {"digit_bits": 2, "drop_digits": 4},
            "drop_digits must be below the number of digits (4), not 4",
        ),
        ({"compensation": True}, "compensation must be false when drop_digits is 0, not True"),
        ({"outputs": 3, "generators": 2}, "generators must divide outputs (3), not 2"),
        (
            {"outputs": 2, "generators": 2, "fill_lanes": 1},
            "generators must be 1 with fill_lanes, not 2",
        ),
        ({"lanes": 4, "fill_lanes": 3}, "fill_lanes must divide lanes (4), not 3"),
        ({"storage": "signed"}, "storage must be full or odd for distributed tables, not signed"),
        (
            {"tables": "activations", "storage": "odd"},
            "storage must be full or signed for activations tables, not odd",
        ),
        (
            {"tables": "activations", "storage": "signed", "digit_bits": 1},
            "digit_bits must be 2 for signed storage, not 1",
        ),
        (
            {"tables": "activations", "storage": "signed", "lanes": 2, "table_lanes": 2},
            "table_lanes must be 1 for signed storage, not 2",
        ),
        ({"digit_bits": 4, "pipeline": 2}, "pipeline must be at most the tree's 1, not 2"),
    ],
)
def test_illegal_combination(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=f"^{re.escape(sentence)}$"):
        LutNASpec(**fields)


@st.composite
def specs(draw: st.DrawFn) -> LutNASpec:
    """Every legal combination of parameters, sizes kept small."""
    form = draw(st.sampled_from([*ADDRESS_BITS]))
    act_bits = draw(st.integers(1, 16))
    widest = ADDRESS_BITS[form]
    digit_bits = draw(st.sampled_from([k for k in (1, 2, 3, 4, act_bits) if k <= act_bits]))
    digit_bits = min(digit_bits, widest, 4 if form == "split" else 16)
    if digit_bits > 4 and digit_bits != act_bits:
        digit_bits = 4
    joint = form in ("distributed", "block", "constant", "activations")
    joined = [n for n in (1, 2, 4, 8) if n * digit_bits <= min(widest, 8)] if joint else [1]
    table_lanes = draw(st.sampled_from(joined or [1]))
    lanes = table_lanes * draw(st.integers(1, 3))
    outputs = draw(st.integers(1, 3))
    weight_bits = draw(st.integers(2, 16))
    fields: dict[str, Any] = {
        "outputs": outputs,
        "lanes": lanes,
        "act_bits": act_bits,
        "act_signed": draw(st.booleans()),
        "weight_bits": weight_bits,
        "digit_bits": digit_bits,
        "table_lanes": table_lanes,
        "reduce": draw(st.sampled_from(["tree", "carry-save"])),
    }
    if form == "constant":
        low, high = -(1 << weight_bits - 1), (1 << weight_bits - 1) - 1
        row = st.lists(st.integers(low, high), min_size=lanes, max_size=lanes)
        matrix = draw(st.lists(row, min_size=outputs, max_size=outputs))
        fields |= {"weights": "constant", "matrix": matrix}
    elif form == "split":
        fields["split_weight"] = draw(st.integers(1, 4))
    else:
        fields["tables"] = form
        if form == "activations":
            signed = digit_bits == 2 and table_lanes == 1
            fields["storage"] = draw(st.sampled_from(["full", "signed"][: 1 + signed]))
        elif digit_bits > 1 and table_lanes == 1:
            fields["storage"] = draw(st.sampled_from(["full", "odd"]))
    if form != "constant":
        fields["double_buffer"] = draw(st.booleans())
        fields["generators"] = draw(st.sampled_from([n for n in (1, 2, 3) if outputs % n == 0]))
    digits = -(-act_bits // digit_bits)
    fields["drop_digits"] = draw(st.integers(0, 0 if form == "activations" else digits - 1))
    if fields["drop_digits"]:
        fields["compensation"] = draw(st.booleans())
    deepest = LutNASpec(**fields).pipeline
    return LutNASpec(**fields, pipeline=draw(st.integers(0, deepest)))


@given(specs())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_every_legal_combination_elaborates(spec: LutNASpec) -> None:
    assert Spec.from_json(spec.to_json()) == spec
    assert rtlil.convert(spec.component())


@given(specs())
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
def test_a_sample_of_them_simulates(iverilog: str, spec: LutNASpec) -> None:
    del iverilog
    small = {"MULFREE_EXHAUSTIVE": "4096"}
    result = runner.regress(spec, simulator="icarus", seed=1, environment=small)
    assert result.passed, result.log


WIDE: list[dict[str, Any]] = [
    {"lanes": 8, "fill_lanes": 2},
    {"lanes": 8, "fill_lanes": 1, "double_buffer": True},
    {"lanes": 8, "fill_lanes": 8, "double_buffer": True},
    {"lanes": 6, "fill_lanes": 3},
    {"lanes": 3, "fill_lanes": 3, "storage": "odd", "digit_bits": 4},
    {"lanes": 4, "fill_lanes": 4, "tables": "block", "digit_bits": 2, "table_lanes": 2},
    {"lanes": 4, "fill_lanes": 4, "drop_digits": 3, "compensation": True},
    {"lanes": 4, "fill_lanes": 2, "tables": "registers"},
    {"lanes": 4, "fill_lanes": 2, "split_weight": 4},
    {"outputs": 8, "lanes": 8, "fill_lanes": 2},  # two blocks
    {"outputs": 8, "lanes": 4, "fill_lanes": 4, "double_buffer": True, "storage": "odd",
     "digit_bits": 3, "drop_digits": 1, "compensation": True},
]  # fmt: skip


@pytest.mark.parametrize("form", WIDE)
def test_wide_beats_load_in_time(iverilog: str, form: dict[str, Any]) -> None:
    del iverilog
    small = {"MULFREE_EXHAUSTIVE": "4096"}
    spec = LutNASpec(**{"outputs": 2} | form)
    result = runner.regress(spec, simulator="icarus", seed=2, environment=small)
    assert result.passed, result.log


@pytest.mark.parametrize(("lanes", "swap"), [(36, 18), (18, 33), (9, 34)])
def test_a_tile_of_wide_beats_takes_few_clocks(lanes: int, swap: int) -> None:
    spec = LutNASpec(outputs=16, lanes=lanes, fill_lanes=lanes // 9)
    assert spec.swap_clocks == swap


def legal(**fields: Any) -> list[LutNASpec]:
    """One core of these fields for every digit width and storage that go with them."""
    widths = [k for k in (1, 2, 3, 4, fields["act_bits"]) if k <= fields["act_bits"]]
    found = []
    for digit_bits in dict.fromkeys(widths):
        for storage in ("full", "odd"):
            try:
                found.append(LutNASpec(digit_bits=digit_bits, storage=storage, **fields))
            except SpecError:  # the table's longest address, or odd multiples of one-bit digits
                continue
    return found


def small_cores(**fields: Any) -> list[LutNASpec]:
    """Every core of 1…6 × 2…6 bits; buffers, reduction and register ranks vary along."""
    return [
        core
        for act_bits in range(1, 7)
        for weight_bits in range(2, 7)
        for act_signed in (False, True)
        for core in legal(
            act_bits=act_bits, weight_bits=weight_bits, act_signed=act_signed,
            double_buffer=bool(act_bits & 1), reduce=("tree", "carry-save")[weight_bits & 1],
            pipeline=0 if (act_bits + weight_bits) % 3 == 0 else -1, **fields,
        )
    ]  # fmt: skip


#: Fields of each kind of store, the cores of 1…6 × 2…6 bits, and those of 8 × 8.
STORES = [
    pytest.param({"tables": "registers"}, 300, 14, id="registers"),
    pytest.param({"tables": "distributed"}, 340, 18, id="distributed"),
    pytest.param({"tables": "block"}, 340, 18, id="block", marks=pytest.mark.slow),
    *[
        pytest.param({"split_weight": n}, 180, 8, id=f"split_weight={n}", marks=pytest.mark.slow)
        for n in (1, 2, 3, 4)
    ],
]


@pytest.mark.parametrize(("fields", "small", "wide"), STORES)
def test_every_small_product(fields: dict[str, Any], small: int, wide: int) -> None:
    del wide
    listed = small_cores(**fields)
    assert len(listed) == small
    assert bank.check(listed) == sum(1 << (s.act_bits + s.weight_bits) for s in listed)


@pytest.mark.parametrize(("fields", "small", "wide"), STORES)
def test_every_8x8_product(fields: dict[str, Any], small: int, wide: int) -> None:
    del small
    listed = [
        core
        for signed in (False, True)
        for core in legal(act_bits=8, weight_bits=8, act_signed=signed, **fields)
    ]
    assert len(listed) == wide
    assert bank.check(listed) == len(listed) << 16


@pytest.mark.slow
def test_every_approximate_product() -> None:
    """Each number of dropped digits, with and without compensation, 5 × 4 bits."""
    listed = []
    for fields in ({"tables": t} for t in ("registers", "distributed", "block")):
        for core in legal(act_bits=5, weight_bits=4, **fields):
            for dropped in range(1, core.act_digits):
                for compensation in (False, True):
                    change = {"drop_digits": dropped, "compensation": compensation}
                    listed.append(dataclasses.replace(core, pipeline=-1, **change))
    assert bank.check(listed) == len(listed) << 9


@pytest.mark.parametrize("act_signed", [True, False])
@pytest.mark.parametrize("digit_bits", [1, 2, 3, 4, 8])
def test_golden_is_the_product(digit_bits: int, act_signed: bool) -> None:
    """All 65,536 pairs: cut into digits and put together again, the product is exact."""
    spec = LutNASpec(act_signed=act_signed, digit_bits=digit_bits, tables="block")
    act = spec.act_format.values()[:, None]
    for weight in spec.weight_format.values():
        exact = baseline.matvec(spec, [[weight]], act)
        np.testing.assert_array_equal(matvec(spec, [[weight]], act), exact)


#: Unsigned 8×8, two-bit digits: digits dropped, compensated, mean, mean absolute error, NMED.
PUBLISHED = [
    (1, False, None, 191, 0.0029),
    (1, True, 63.8, 127.5, 0.0020),
    (2, False, None, 956, 0.0147),
    (2, True, None, 510, 0.0078),
    (3, False, None, 4016, 0.0618),
    (3, True, None, 2040, 0.0314),
]


@pytest.mark.parametrize(("dropped", "compensation", "mean", "absolute", "nmed"), PUBLISHED)
def test_error_statistics(dropped, compensation, mean, absolute, nmed) -> None:
    """The error table of the approximate forms, computed for this project from the formula."""
    spec = LutNASpec(
        act_signed=False, weight_bits=9, digit_bits=2, drop_digits=dropped,
        compensation=compensation,
    )  # fmt: skip
    found = error_statistics(spec, np.arange(256))
    assert found.mean_absolute == pytest.approx(absolute, abs=0.5)
    assert found.nmed == pytest.approx(nmed, abs=5e-5)
    if mean is not None:
        assert found.mean == pytest.approx(mean, abs=0.05)
    assert found.maximum_absolute >= found.mean_absolute


@pytest.mark.parametrize(
    ("compensation", "mean", "absolute", "extremes"),
    [(False, -11.25, 11.25, (-45, 0)), (True, -3.75, 7.5, (-30, 15))],
)
def test_lsb_sub_product_of_four_by_four(compensation, mean, absolute, extremes) -> None:
    """LUNA-CIM's approximate forms: the low sub-product is 0, or W.

    W itself is not half of the digit's range (that is 2W at this digit width, which
    `compensation` adds), so the second form is computed here from the first.
    """
    spec = LutNASpec(act_bits=4, act_signed=False, weight_bits=5, digit_bits=2, drop_digits=1)
    weights, act = np.arange(16), np.arange(16)
    approximate = np.stack([matvec(spec, [[w]], act[:, None])[:, 0] for w in weights])
    error = approximate + compensation * weights[:, None] - weights[:, None] * act
    assert error.mean() == mean
    assert np.abs(error).mean() == absolute
    assert (error.min(), error.max()) == extremes


def test_error_statistics_of_the_exact_form() -> None:
    found = error_statistics(LutNASpec(act_bits=4, weight_bits=4))
    assert (found.mean, found.mean_absolute, found.maximum_absolute, found.nmed) == (0, 0, 0, 0)


def test_variants_keep_the_function_and_what_is_fixed() -> None:
    spec = LutNASpec(outputs=4, lanes=8)
    found = spec.variants()
    assert found[0] == spec
    assert {v.store for v in found} == {"distributed", "block", "registers"}
    for v in found:
        assert (v.outputs, v.lanes, v.act_bits, v.weight_bits, v.drop_digits) == (4, 8, 8, 8, 0)
    assert {v.store for v in spec.variants(frozenset({"tables"}))} == {"distributed"}


def test_defaults_fill_the_address_of_a_table() -> None:
    """One lane: four-bit digits. Four lanes: one bit of each. Both address 16 entries."""
    assert (LutNASpec().digit_bits, LutNASpec().table_lanes) == (4, 1)
    assert (LutNASpec(lanes=4).digit_bits, LutNASpec(lanes=4).table_lanes) == (1, 4)
    assert LutNASpec(act_bits=1).digit_bits == 1


#: Digit widths and lanes of tables of activations, signed and not, buffered and not.
ACTIVATION_TABLES = [
    {"lanes": 2, "act_signed": False, "weight_bits": 9},
    {"lanes": 1, "digit_bits": 3, "reduce": "tree"},
    {"lanes": 4, "table_lanes": 4, "digit_bits": 1, "act_bits": 4},
    {"lanes": 2, "table_lanes": 2, "digit_bits": 2, "double_buffer": True},
    {"lanes": 2, "storage": "signed", "act_signed": False, "weight_bits": 9},
    {"lanes": 3, "storage": "signed", "reduce": "tree", "double_buffer": True, "fill_lanes": 1},
    {"storage": "signed", "act_bits": 4, "weight_bits": 5, "pipeline": 0},
]


@pytest.mark.skipif(not runner.available("icarus"), reason="Icarus is not installed")
@pytest.mark.parametrize("fields", ACTIVATION_TABLES)
def test_tables_of_activations(fields: dict[str, Any]) -> None:
    spec = LutNASpec(**({"tables": "activations", "reduce": "carry-save", "outputs": 2} | fields))
    found = runner.regress(spec, simulator="icarus")
    assert found.passed, found.log


def test_tables_of_activations_fill_two_bits_of_address() -> None:
    """A lane alone has digits of two bits; two lanes share a table at one bit each."""
    one, two = (LutNASpec(tables="activations", lanes=lanes) for lanes in (1, 2))
    assert (one.digit_bits, one.table_lanes, one.latency) == (2, 1, 2)
    assert (two.digit_bits, two.table_lanes, two.latency) == (1, 2, 2)
    signed = LutNASpec(tables="activations", storage="signed", lanes=2)
    assert (signed.digit_bits, signed.table_lanes, signed.latency, signed.hold) == (2, 1, 1, 0)
    with pytest.raises(SpecError, match=r"^drop_digits must be 0 for activations tables, not 1$"):
        LutNASpec(tables="activations", drop_digits=1)
