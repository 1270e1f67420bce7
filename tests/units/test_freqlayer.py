import numpy as np
import pytest
from amaranth.sim import Simulator

from mulfree.spec import Spec, SpecError
from mulfree.units.freqlayer import FreqLayerSpec
from mulfree_sim import runner
from mulfree_sim.golden import freqlayer as golden

SEED = 20262


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


@pytest.mark.parametrize(
    ("sentence", "fields"),
    [
        ("channels must be between 1 and 4096, not 0", {"channels": 0}),
        ("points must be a power of two, not 12", {"points": 12}),
        ("gain_shift must be 0 without gains, not 2", {"gain_shift": 2}),
        (
            "scaled coefficients must be at most 32 bits, not 75",
            {"gain": "pot", "gain_bits": 7},
        ),
        (
            "thresholds must be given with parameters constant and gain none, not None",
            {"parameters": "constant"},
        ),
        (
            "thresholds must be left out with parameters loadable and gain none, not ((1, 2),)",
            {"thresholds": ((1, 2),)},
        ),
        (
            "thresholds must have 1 row of 4, not 1 rows of 2",
            {"channels": 3, "parameters": "constant", "thresholds": ((1, 2),)},
        ),
        (
            "thresholds must be between 0 and 511, not -1",
            {"channels": 4, "parameters": "constant", "thresholds": ((1, 2, 3, -1),)},
        ),
        (
            "samples_per_cycle must divide 6 samples, not be 4",
            {"channels": 6, "samples_per_cycle": 4},
        ),
        ("out_bits must be at most 13, the width of any result, not 14", {"out_bits": 14}),
    ],
)
def test_spec_errors(sentence: str, fields: dict) -> None:
    with pytest.raises(SpecError) as error:
        FreqLayerSpec(**fields)
    assert str(error.value) == sentence


def test_gain_without_a_code() -> None:
    fields = {"channels": 2, "parameters": "constant", "thresholds": ((0, 0),)}
    with pytest.raises(SpecError, match=r"^gains must be .*, not 3$"):
        FreqLayerSpec(**fields, gain="pot", gains=((1, 3),))
    with pytest.raises(SpecError, match=r"^gains must be between -8 and 7, not 8$"):
        FreqLayerSpec(**fields, gain="integer", gains=((1, 8),))


def test_json() -> None:
    spec = FreqLayerSpec(
        channels=2,
        gain="pot",
        parameters="constant",
        thresholds=((0, 5),),
        gains=((-64, 1),),
    )
    assert Spec.from_dict(spec.to_dict()) == spec


def test_shrinking_forms() -> None:
    x = np.array([-9, -3, -2, 0, 2, 3, 9])
    assert golden.soft(x, 2).tolist() == [-7, -1, 0, 0, 0, 1, 7]
    assert golden.hard(x, 2).tolist() == [-9, -3, 0, 0, 0, 3, 9]
    assert np.allclose(golden.smooth(x, 2), np.tanh(x) * np.maximum(abs(x) - 2, 0))


def test_without_thresholds_it_is_the_identity(rng: np.random.Generator) -> None:
    spec = FreqLayerSpec(channels=12, points=4)
    x = rng.integers(-128, 128, (50, 12))
    assert np.array_equal(golden.layer(spec, x, np.zeros(12, int)), x)


@pytest.mark.parametrize("dc", [True, False])
def test_integers_round_the_real_layer(rng: np.random.Generator, dc: bool) -> None:
    spec = FreqLayerSpec(
        channels=13, gain="integer", gain_shift=2, threshold_dc=dc, residual=True, out_bits=16
    )
    x = rng.integers(-128, 128, (50, 13))
    T, gains = rng.integers(0, 2000, 16), rng.integers(-8, 8, 16)
    # A transform scaled by 1/√N and gains of 2^-2 bring the thresholds down alike.
    scale = np.sqrt(spec.block) * 4
    exact = golden.real(x, T / scale, gains / 4, shrink=golden.soft, threshold_dc=dc, residual=True)
    assert np.abs(golden.layer(spec, x, T, gains) - exact).max() <= 0.5 + 1e-9


def test_smooth_leaves_dc_alone(rng: np.random.Generator) -> None:
    x = rng.normal(size=(5, 8))
    T = np.full(8, 100.0)
    mean = x.mean(axis=1, keepdims=True)
    assert np.allclose(golden.real(x, T, threshold_dc=False), mean)
    assert np.allclose(golden.real(x, T), 0)


def constant(**fields: object) -> FreqLayerSpec:
    rng = np.random.default_rng(SEED)
    return FreqLayerSpec(
        channels=7,
        bits=5,
        gain="pot",
        parameters="constant",
        thresholds=(tuple(rng.integers(0, 300, 8).tolist()),),
        gains=(tuple(rng.choice([-64, -2, 0, 1, 4, 8], 8).tolist()),),
        **fields,
    )


@pytest.mark.parametrize(
    "spec",
    [
        FreqLayerSpec(channels=8, bits=6),
        FreqLayerSpec(
            channels=12, bits=5, gain="pot", residual=True, threshold_dc=False, samples_per_cycle=2
        ),
        FreqLayerSpec(
            channels=12,
            points=4,
            bits=5,
            gain="integer",
            gain_shift=2,
            residual=True,
            signed=False,
            out_bits=7,
            samples_per_cycle=4,
        ),
        constant(gain_shift=1),
        FreqLayerSpec(channels=1, bits=2, residual=True),
    ],
    ids=lambda spec: f"{spec.channels}-{spec.gain}-{spec.samples_per_cycle}",
)
def test_rtl(spec: FreqLayerSpec) -> None:
    result = runner.regress(spec, simulator="icarus", seed=SEED)
    assert result.passed, result.log[-2000:]


def test_cycles() -> None:
    """The timing that the documentation states."""
    spec = FreqLayerSpec(
        channels=16, samples_per_cycle=2, parameters="constant", thresholds=((1,) * 16,)
    )
    dut = spec.component()
    arrivals: list[int] = []

    async def bench(ctx) -> None:
        ctx.set(dut.sample.valid, 1)
        ctx.set(dut.result.ready, 1)
        for edge in range(60):
            if ctx.get(dut.result.valid):
                arrivals.append(edge)
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    first = 2 * (spec.beats - 1 + 4) + 2
    assert arrivals == list(range(first, 60))


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 8])
def test_rtl_at_size(lanes: int) -> None:
    spec = FreqLayerSpec(channels=96, gain="integer", residual=True, samples_per_cycle=lanes)
    result = runner.regress(spec, seed=SEED)
    assert result.passed, result.log[-2000:]


def test_no_multiplication_in_the_hardware() -> None:
    from mulfree.emit import to_verilog

    text = to_verilog(FreqLayerSpec(channels=4, gain="integer", residual=True))
    code = [line.split("//")[0] for line in text.splitlines() if not line.strip().startswith("(*")]
    assert not [line for line in code if " * " in line]
