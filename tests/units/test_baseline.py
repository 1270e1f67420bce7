import dataclasses
import json

import pytest
from amaranth.back import rtlil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mulfree.spec import Spec, SpecError
from mulfree.units.baseline import DIRECT_BITS, SCHEMES, BaselineSpec
from mulfree_sim import bank, runner

FORMS = tuple(SCHEMES)


def test_direct_is_limited():
    with pytest.raises(
        SpecError, match=r"^act_bits must be at most 10 when form is direct, not 11$"
    ):
        BaselineSpec(form="direct", act_bits=DIRECT_BITS + 1)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("form", "x", "form must be one of star, direct, array, wallace, dadda, booth, not 'x'"),
        ("reduce", "x", "reduce must be one of tree, carry-save, not 'x'"),
        ("pipeline", 9, "pipeline must be between 0 and 8, not 9"),
    ],
)
def test_parameters_are_checked(field, value, message):
    with pytest.raises(SpecError) as caught:
        BaselineSpec(**{field: value})
    assert str(caught.value) == message


@st.composite
def specs(draw, lanes=5, outputs=3, bits=16):
    """Any legal Spec of limited size."""
    values = {
        "form": draw(st.sampled_from(FORMS)),
        "reduce": draw(st.sampled_from(("tree", "carry-save"))),
        "pipeline": draw(st.integers(0, 8)),
        "outputs": draw(st.integers(1, outputs)),
        "lanes": draw(st.integers(1, lanes)),
        "act_signed": draw(st.booleans()),
        "weight_bits": draw(st.integers(2, bits)),
    }
    limit = 6 if values["form"] == "direct" else bits
    values["act_bits"] = draw(st.integers(1, limit))
    if draw(st.booleans()):
        half = 1 << (values["weight_bits"] - 1)
        weight = st.one_of(st.just(0), st.integers(-half, half - 1))
        row = st.tuples(*[weight] * values["lanes"])
        values["matrix"] = draw(st.tuples(*[row] * values["outputs"]))
        values["weights"] = "constant"
    else:
        values["double_buffer"] = draw(st.booleans())
    return BaselineSpec(**values)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(specs())
def test_every_legal_spec_elaborates(spec):
    assert rtlil.convert(spec.component(), name="top")
    assert Spec.from_json(spec.to_json()) == spec
    assert json.loads(spec.to_json())["unit"] == "baseline"


@pytest.mark.skipif(not runner.available("icarus"), reason="iverilog is not installed")
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(specs(lanes=3, outputs=2, bits=5))
def test_a_sample_simulates(spec):
    result = runner.regress(spec, simulator="icarus", seed=1)
    assert result.passed, result.log


def test_every_small_product():
    # Register ranks vary along, so that every latency meets every form.
    listed = [
        BaselineSpec(
            form=form, act_bits=a, weight_bits=w, act_signed=signed, pipeline=(a + w) % 5,
            double_buffer=bool(a & 1), reduce=("tree", "carry-save")[w & 1],
        )
        for form in FORMS
        for a in range(1, 7)
        for w in range(2, 7)
        for signed in (False, True)
    ]  # fmt: skip
    assert len(listed) == 360
    assert bank.check(listed) == sum(1 << (s.act_bits + s.weight_bits) for s in listed)


def test_every_8x8_product():
    listed = [
        BaselineSpec(form=form, act_signed=signed) for form in FORMS for signed in (False, True)
    ]
    assert bank.check(listed) == len(listed) << 16


def test_every_constant_product():
    listed = [
        BaselineSpec(form=form, act_bits=5, weight_bits=5, weights="constant", matrix=((w,),))
        for form in FORMS
        for w in range(-16, 16)
    ]
    assert bank.check(listed) == len(listed) << 5


def test_latency_is_the_pipeline():
    spec = BaselineSpec(pipeline=3)
    assert spec.latency == 3
    assert dataclasses.replace(spec, pipeline=0).latency == 0
