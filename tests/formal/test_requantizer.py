import pytest

from mulfree.engine import requantizer
from mulfree.engine.requantizer import RequantizerSpec
from mulfree_sim import formal

FORMS = [
    {"rounding": "single", "left_shift": 1},
    {"rounding": "double", "style": "pipelined"},
    {"rounding": "double", "digit_bits": 1, "digits": 3},
    {"digit_bits": 3, "style": "pipelined", "left_shift": 1},
]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_formula_is_proved(form):
    assert formal.run(formal.proofs(RequantizerSpec(**form))[0]).status == "proved"


@pytest.mark.parametrize("style", ["serial", "pipelined"])
def test_stream_rules_are_proved(style):
    found = {p.name: formal.run(p).status for p in formal.proofs(RequantizerSpec(style=style))[1:]}
    assert found == {"keeps": "proved", "independent out": "proved"}


def test_a_wrong_rounding_is_refuted(monkeypatch):
    """Ties away from zero instead of up, in the last rounding."""
    monkeypatch.setattr(requantizer, "nudged_half_up", requantizer.nudged_half_away)
    proof = formal.proofs(RequantizerSpec())[0]
    assert formal.run(proof).status == "refuted"
