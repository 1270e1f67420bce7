import dataclasses

import pytest

from mulfree.spec import SpecError
from mulfree.units.baseline import BaselineSpec
from mulfree_sim import formal
from mulfree_sim.formal import core

FORMS = ("star", "direct", "array", "wallace", "dadda", "booth")


@pytest.mark.parametrize("form", ["direct", "wallace", "booth"])
def test_small_products_are_proved(form):
    spec = BaselineSpec(form=form, act_bits=3, weight_bits=4, act_signed=form != "wallace")
    assert formal.run(core.product(spec)).status == "proved"


def test_dot_product_hold_and_loading_are_proved():
    spec = BaselineSpec(
        form="booth", act_bits=2, weight_bits=3, lanes=2, outputs=2, reduce="carry-save",
        pipeline=2, double_buffer=True,
    )  # fmt: skip
    results = list(formal.prove(spec))
    assert [r.proof.name for r in results] == ["product", "hold", "loading"]
    assert all(r.proved for r in results), results


def test_constant_weights_are_proved():
    spec = BaselineSpec(
        form="booth", act_bits=3, weight_bits=4, lanes=2, weights="constant", matrix=((-8, 7),)
    )
    assert [r.proof.name for r in formal.prove(spec) if r.proved] == ["product", "hold"]


def altered(proof, before, after):
    """Return the proof of a netlist or property with a mistake in it."""
    files = {name: text.replace(before, after) for name, text in proof.files.items()}
    assert files != proof.files
    return dataclasses.replace(proof, files=files)


def test_a_wrong_product_is_refuted():
    proof = core.product(BaselineSpec(form="star", act_bits=3, weight_bits=3))
    wrong = altered(proof, "w_0_0 * a_0", "w_0_0 * a_0 + (w_0_0 == -4 && a_0 == 3)")
    assert formal.run(wrong).status == "refuted"


def test_a_result_that_moves_without_enable_is_not_proved():
    # The states that refute it lie beyond the depth, so that the answer is "unknown".
    proof = core.hold(BaselineSpec(act_bits=2, weight_bits=2))
    assert formal.run(altered(proof, ".en(en)", ".en(1'b1)")).status == "unknown"


def test_a_tile_in_use_too_early_is_refuted():
    proof = core.loading(BaselineSpec(act_bits=2, weight_bits=2, lanes=2))
    wrong = altered(proof, "(retired + 1) * 2", "(retired + 1) * 3")
    assert formal.run(wrong).status == "refuted"


def test_a_netlist_that_cannot_be_read_is_an_error():
    proof = formal.Proof("broken", "nothing", {"top.sv": "module top(;"}, "top", "bmc")
    with pytest.raises(formal.ProofError, match="the proof broken did not run"):
        formal.run(proof)


def test_mode_must_be_known():
    with pytest.raises(ValueError, match=r"^mode must be one of prove, bmc, structure, not 'x'$"):
        formal.Proof("p", "c", {}, "top", "x")


def test_unit_without_proofs_is_named():
    class Unproved(BaselineSpec):
        unit = "unproved"

    with pytest.raises(SpecError, match=r"^unit must be one with proofs, not 'unproved'$"):
        formal.proofs(Unproved())


@pytest.mark.slow
@pytest.mark.parametrize("act_signed", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_8x8_products_are_proved(form, act_signed):
    # A table of 256 entries, filled one a clock, is beyond z3; 32 are not.
    act_bits = 5 if form == "direct" else 8
    spec = BaselineSpec(form=form, act_bits=act_bits, act_signed=act_signed)
    assert formal.run(core.product(spec)).status == "proved"
