import pytest

from mulfree import SpecError
from mulfree.engine.dense import DenseSpec
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree_sim import runner

SEED = 21


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"scalers": 3}, "scalers must be a divisor of outputs (4), not 3"),
        ({"acc_bits": 12}, "acc_bits must be at least the dot product's 18, not 12"),
        ({"scaler_digits": 17}, "scaler_digits must be between 1 and 16, not 17"),
    ],
)
def test_spec_refuses(parameters, message):
    with pytest.raises(SpecError) as error:
        DenseSpec(core=BaselineSpec(outputs=4, lanes=4), **parameters)
    assert str(error.value) == message


def test_spec_survives_json():
    spec = DenseSpec(core=LutNASpec(outputs=6, lanes=2), scalers=3, channels=10)
    assert DenseSpec.from_json(spec.to_json()) == spec
    assert spec.requantizer.channels == 12


@pytest.mark.parametrize(
    "spec",
    [
        DenseSpec(core=LutNASpec(outputs=4, lanes=3), acc_slots=4, channels=10),
        DenseSpec(
            core=BaselineSpec(outputs=2, lanes=1, act_signed=False, double_buffer=True),
            acc_slots=1,
            channels=5,
            scalers=2,
            out_signed=False,
            rounding="double",
        ),
    ],
    ids=["lutna", "one slot"],
)
def test_equals_golden(spec):
    simulator = "icarus" if runner.available("icarus") else "verilator"
    result = runner.regress(spec, simulator=simulator, seed=SEED)
    assert result.passed, result.log
