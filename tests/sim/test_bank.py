import numpy as np
import pytest

from mulfree.units.baseline import BaselineSpec
from mulfree_sim import bank
from mulfree_sim.golden import baseline


def test_lanes_and_outputs_are_refused():
    with pytest.raises(ValueError, match=r"^specs must have one lane and one output, not 2 and 1$"):
        bank.check([BaselineSpec(lanes=2)])


def test_a_wrong_product_is_found(monkeypatch):
    right = baseline.matvec

    def wrong(spec, weights, act):
        return right(spec, weights, act) + (np.asarray(act) == 3) * (np.ravel(weights)[0] == -2)

    monkeypatch.setattr(baseline, "matvec", wrong)
    with pytest.raises(AssertionError, match="-2 × 3 must be -5, not -6"):
        bank.check([BaselineSpec(act_bits=3, weight_bits=3, form="dadda")])


def test_a_wrong_latency_is_found(monkeypatch):
    monkeypatch.setattr(BaselineSpec, "latency", 2)
    with pytest.raises(AssertionError, match="must be"):
        bank.check([BaselineSpec(act_bits=3, weight_bits=3, pipeline=1)])
