import dataclasses

import pytest

from mulfree.units.lutna import LutNASpec
from mulfree_sim import formal
from mulfree_sim.formal import lutna

#: Every kind of store, and every digit width and storage in it, at 8 × 8 bits.
FORMS = {
    **{f"registers-{d}-{s}": {"tables": "registers", "digit_bits": d, "storage": s}
       for d in (1, 2, 3, 4) for s in ("full", "odd") if d > 1 or s == "full"},
    **{f"distributed-{d}-{s}": {"digit_bits": d, "storage": s, "table_lanes": 1}
       for d in (1, 2, 3, 4) for s in ("full", "odd") if d > 1 or s == "full"},
    **{f"block-{d}": {"tables": "block", "digit_bits": d} for d in (1, 2, 4)},
    **{f"split-{n}": {"split_weight": n, "digit_bits": 4} for n in (1, 2, 3, 4)},
    "shared-2": {"lanes": 2, "table_lanes": 2, "digit_bits": 2},
    "direct": {"digit_bits": 8},
    "activations": {"tables": "activations", "lanes": 2},
    "signed": {"tables": "activations", "storage": "signed"},
}  # fmt: skip


@pytest.mark.parametrize(
    "form",
    [
        {"tables": "registers", "storage": "odd", "digit_bits": 2},
        {"tables": "distributed", "digit_bits": 2},
        {"tables": "block", "digit_bits": 2, "act_signed": False},
        {"tables": "distributed", "digit_bits": 2, "drop_digits": 1, "compensation": True},
        {"split_weight": 2, "digit_bits": 2},
        {"tables": "activations", "storage": "signed", "act_signed": False},
    ],
    ids=lambda form: "-".join(str(value) for value in form.values()),
)
def test_small_cores_are_proved(form):
    results = list(formal.prove(LutNASpec(**{"act_bits": 4, "weight_bits": 3, **form})))
    assert results
    assert all(result.proved for result in results), results


# The states that refute an induction lie beyond its depth, so that its answer is "unknown".
@pytest.mark.parametrize(("form", "status"), [("generator", "unknown"), ("product", "refuted")])
def test_a_wrong_table_or_sum_is_not_proved(form, status):
    proof = next(p for p in lutna.proofs(LutNASpec(act_bits=4, weight_bits=3)) if p.name == form)
    before = "= weight_0_0 * digit_0;"
    files = {name: text.replace(before, "= weight_0_0 * digit_0 + 1;")
             for name, text in proof.files.items()}  # fmt: skip
    assert files != proof.files
    assert formal.run(dataclasses.replace(proof, files=files)).status == status


@pytest.mark.slow
@pytest.mark.parametrize("act_signed", [True, False])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_8x8_cores_are_proved(form, act_signed):
    results = list(formal.prove(LutNASpec(act_signed=act_signed, **form), timeout=900))
    assert all(result.proved for result in results), results
