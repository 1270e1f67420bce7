"""Proofs of the power-of-two cores and of the zero-skipping unit."""

import dataclasses

import pytest

from mulfree.units.pot import PoTSpec
from mulfree.units.skip import SkipSpec
from mulfree_sim import formal
from mulfree_sim.formal import core


@pytest.mark.parametrize("structure", ["lut4", "lut6"])
def test_small_products_are_proved(structure):
    spec = PoTSpec(structure=structure, weight_bits=3, act_bits=3)
    assert formal.run(core.product(spec)).status == "proved"


def test_a_lost_sign_is_refuted():
    """Without the ones that negatives need, the sum is wrong."""
    proof = core.product(PoTSpec(weight_bits=2, act_bits=2))
    wrong = {name: text.replace("w_0_0 * a_0", "(w_0_0 < 0 ? ~a_0 : w_0_0 * a_0)")
             for name, text in proof.files.items()}  # fmt: skip
    assert wrong != proof.files
    assert formal.run(dataclasses.replace(proof, files=wrong)).status == "refuted"


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        PoTSpec(act_bits=8),
        PoTSpec(act_bits=8, weight_bits=5, structure="lut6"),
        PoTSpec(act_bits=4, lanes=3, outputs=2),
        PoTSpec(act_bits=4, lanes=3, structure="lut6", reduce="chain", pipeline=2),
        PoTSpec(act_bits=4, lanes=2, terms=2, weight_bits=3, double_buffer=True),
        PoTSpec(act_bits=4, lanes=2, weights="constant", matrix=((-8, 64),), act_signed=False),
        SkipSpec(inputs=4, act_bits=3, weight_bits=3, acc_bits=10),
    ],
    ids=lambda spec: spec.to_json(),
)
def test_everything_is_proved(spec):
    results = list(formal.prove(spec))
    assert results
    assert all(result.proved for result in results), results
