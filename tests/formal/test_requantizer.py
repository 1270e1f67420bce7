import pytest

from mulfree.engine import requantizer
from mulfree.engine.requantizer import RequantizerSpec
from mulfree_sim import formal

FORMS = [
    {"rounding": "single", "left_shift": 1},
    pytest.param({"rounding": "double", "style": "pipelined"}, marks=pytest.mark.slow),
    pytest.param({"rounding": "double", "digit_bits": 1, "digits": 3}, marks=pytest.mark.slow),
    pytest.param({"digit_bits": 3, "style": "pipelined", "left_shift": 1}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_proved(form):
    found = {r.proof.name: r.status for r in formal.prove(RequantizerSpec(**form))}
    assert found == {"formula": "proved", "keeps": "proved", "independent out": "proved"}


def test_a_wrong_rounding_is_refuted(monkeypatch):
    """Ties away from zero instead of up, in the last rounding."""
    monkeypatch.setattr(requantizer, "nudged_half_up", requantizer.nudged_half_away)
    proof = formal.proofs(RequantizerSpec())[0]
    assert formal.run(proof).status == "refuted"
