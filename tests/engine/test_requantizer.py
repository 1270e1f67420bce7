import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mulfree import SpecError
from mulfree.engine.requantizer import RequantizerSpec
from mulfree_sim import runner
from mulfree_sim.golden import requantizer as golden

SEED = 20


def regress(**parameters):
    simulator = "icarus" if runner.available("icarus") else "verilator"
    result = runner.regress(RequantizerSpec(**parameters), simulator=simulator, seed=SEED)
    assert result.passed, result.log


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"lanes": 0}, "lanes must be between 1 and 64, not 0"),
        ({"lanes": 3}, "channels must be a multiple of lanes (3), not 64"),
        ({"digits": 17}, "digits must be at most 16 for this multiplier, not 17"),
        ({"style": "fast"}, "style must be one of serial, pipelined, not 'fast'"),
        (
            {"left_shift": 1, "acc_bits": 10},
            "acc_bits must be at least 11 with a left shift, not 10",
        ),
        ({"right_shift": 32}, "right_shift must be between 1 and 31, not 32"),
    ],
)
def test_spec_refuses(parameters, message):
    with pytest.raises(SpecError) as error:
        RequantizerSpec(**parameters)
    assert str(error.value) == message


def test_spec_survives_json():
    spec = RequantizerSpec(lanes=2, channels=6, style="pipelined", digits=3)
    assert RequantizerSpec.from_json(spec.to_json()) == spec


def test_golden_on_gemmlowp_ties():
    high = golden.saturating_rounding_doubling_high_mul
    half = 1 << 30
    assert high([1, -1, 3, -3], half).tolist() == [1, 0, 2, -1]
    twice = golden.multiply_by_quantized_multiplier
    # 0.5 · 2^-1: the first rounding has already moved 1 to 1, so that 0.25 becomes 1.
    assert twice([1, -1, 3, -3], half, -1, "double").tolist() == [1, 0, 1, -1]
    assert twice([1, -1, 3, -3], half, -1, "single").tolist() == [0, 0, 1, -1]
    for how in ("single", "double"):
        assert twice([1, -5, 1 << 29], half, 1, how).tolist() == [1, -5, 1 << 29]


def test_golden_equals_exact_fractions():
    """Against the definitions in exact fractions."""
    rng = np.random.default_rng(SEED)
    x = rng.integers(-(1 << 31), 1 << 31, 500) >> rng.integers(0, 32, 500)
    m, s = rng.integers(1 << 30, 1 << 31, 500), rng.integers(-31, 1, 500)
    once = golden.multiply_by_quantized_multiplier(x, m, s, "single").tolist()
    twice = golden.multiply_by_quantized_multiplier(x, m, s, "double").tolist()
    for i, (xi, mi, si) in enumerate(zip(x.tolist(), m.tolist(), s.tolist(), strict=True)):
        assert once[i] == math.floor(Fraction(xi * mi, 1 << (31 - si)) + Fraction(1, 2))
        first = math.floor(Fraction(xi * mi, 1 << 31) + Fraction(1, 2))
        magnitude = math.floor(Fraction(abs(first), 1 << -si) + Fraction(1, 2))
        assert twice[i] == (magnitude if first >= 0 else -magnitude)
        assert abs(once[i] - twice[i]) <= 1


def test_golden_equals_litert():
    """FULLY_CONNECTED in ai-edge-litert 2.3.0 with reference kernels: eight random layers."""
    with np.load(Path(__file__).with_name("litert_fully_connected.npz")) as kept:
        layers = [
            dict(zip(kept.files, row, strict=True)) for row in zip(*kept.values(), strict=True)
        ]
    differ = {"single": 0, "double": 0}
    for layer in layers:
        parameters = golden.ChannelParameters(
            *(layer[name].astype(np.int64) for name in ("bias", "multiplier", "shift"))
        )
        for rounding in differ:
            spec = RequantizerSpec(left_shift=30, rounding=rounding)
            got = golden.requantize(spec, layer["acc"], parameters, *layer["clamp"].tolist())
            differ[rounding] += int((got != layer["out"]).sum())
    assert differ["single"] == 0
    assert differ["double"] < 10


#: (digit_bits, digits, style, rounding), every digit in each style; the first stand for all.
DIGITS = [
    (2, 1, "serial", "single"),
    (1, 3, "pipelined", "double"),
    *(
        pytest.param(*digits, style, rounding, marks=pytest.mark.slow)
        for digits in ((1, 1), (2, 2), (3, 1), (4, 1))
        for style in ("serial", "pipelined")
        for rounding in ("single", "double")
    ),
]


@pytest.mark.parametrize(("digit_bits", "digits", "style", "rounding"), DIGITS)
def test_exhaustive_when_small(digit_bits, digits, style, rounding):
    """Every accumulator, multiplier and shift of a small form."""
    regress(
        style=style,
        digit_bits=digit_bits,
        digits=digits,
        channels=64,
        lanes=8,
        acc_bits=5,
        out_bits=2,
        multiplier_bits=3,
        left_shift=1,
        right_shift=3,
        rounding=rounding,
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {
            "style": "pipelined",
            "left_shift": 30,
            "digit_bits": 1,
            "digits": 31,
            "rounding": "double",
        },
        {"lanes": 3, "channels": 3, "acc_bits": 20, "digit_bits": 3, "out_bits": 4},
    ],
    ids=str,
)
def test_equals_golden(parameters):
    regress(**parameters)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["serial", "pipelined"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"lanes": 4, "channels": 12, "digit_bits": 1, "digits": 4, "out_signed": False},
        {"channels": 1, "digit_bits": 4, "out_bits": 16, "acc_bits": 12, "right_shift": 1},
        {"rounding": "double", "acc_bits": 24, "left_shift": 9},
        {"channels": 2, "out_bits": 1, "out_signed": False, "left_shift": 3},
    ],
    ids=str,
)
def test_more_equal_golden(parameters, style):
    regress(style=style, **parameters)


@pytest.mark.parametrize(
    "parameters", [{"style": "pipelined"}, *({"digit_bits": k} for k in (1, 2)), {"left_shift": 1}]
)
def test_interval(parameters):
    """Back to back, a beat takes `interval` clocks."""
    from amaranth.sim import Simulator

    spec = RequantizerSpec(channels=1, **parameters)
    dut = spec.component()
    times = []

    async def drive(ctx):
        ctx.set(dut.parameter.payload.last, 1)
        ctx.set(dut.parameter.valid, 1)
        await ctx.tick()
        ctx.set(dut.parameter.valid, 0)
        ctx.set(dut.acc.valid, 1)
        ctx.set(dut.out.ready, 1)
        for clock in itertools.count():
            if ctx.get(dut.out.valid):
                times.append(clock)
                if len(times) == 4:
                    return
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(drive)
    sim.run()
    assert np.diff(times).tolist() == [spec.interval] * 3
