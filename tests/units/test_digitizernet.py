import pytest

from mulfree.spec import Spec, SpecError
from mulfree.units.digitizernet import DigitizerNetSpec
from mulfree_sim import runner
from mulfree_sim.golden import digitizernet

SEED = 20262
HISTOGRAM = (tuple(1 + 1000 // (1 + abs(level - 12) ** 2) for level in range(32)),)


def test_spec_errors() -> None:
    sentence = r"^flash of a network must be of at most 6 bits, not 7$"
    with pytest.raises(SpecError, match=sentence):
        DigitizerNetSpec(mode="flash", bits=7)
    with pytest.raises(SpecError, match=r"^compute_cycles must be between 1 and 1024, not 0$"):
        DigitizerNetSpec(compute_cycles=0)


def test_spec_round_trip() -> None:
    spec = DigitizerNetSpec(mode="hybrid", flash_bits=3)
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.arrays == 8


def test_network_makes_a_conversion_per_longer_phase() -> None:
    levels = list(range(32)) * 2
    for compute in (2, 5, 9):
        spec = DigitizerNetSpec(compute_cycles=compute)
        phases = digitizernet.run(spec, levels)
        assert [p.found.code for p in phases if p.found] == levels
        assert {p.clocks for p in phases[2:64]} == {max(compute, 5)}
    flash = DigitizerNetSpec(mode="flash")
    assert flash.arrays == 32


# Each of the two units in half of the modes; the other halves are slow only for their number.
NETWORKS = [
    DigitizerNetSpec(),
    DigitizerNetSpec(mode="flash", bits=3, compute_cycles=1),
    DigitizerNetSpec(mode="hybrid", flash_bits=2, compute_cycles=2),
    DigitizerNetSpec(mode="tree", histogram=HISTOGRAM),
]


@pytest.mark.parametrize("spec", NETWORKS[:2], ids=lambda spec: spec.mode)
def test_rtl_of_the_network(spec: DigitizerNetSpec) -> None:
    result = runner.regress(spec, simulator="icarus", seed=SEED)
    assert result.passed, result.log[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("spec", NETWORKS[2:], ids=lambda spec: spec.mode)
def test_rtl_of_more_networks(spec: DigitizerNetSpec) -> None:
    result = runner.regress(spec, simulator="icarus", seed=SEED)
    assert result.passed, result.log[-2000:]
