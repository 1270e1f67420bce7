"""Power-of-two codes: definitions, round trips, nearest level, calibration, packing."""

import math

import numpy as np
import pytest

from mulfree.formats import PowerOfTwo
from mulfree.formats.pot import PRESETS, LevelCode, pack, preset, unpack

ONE_TERM = [PowerOfTwo(bits) for bits in range(2, 7)]
TWO_TERMS = [PowerOfTwo(bits, 2) for bits in range(2, 7)]
EVERY = [*ONE_TERM, *TWO_TERMS, *PRESETS.values()]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((1,), "bits must be between 2 and 6, not 1"),
        ((4, 3), "terms must be 1 or 2, not 3"),
        ((4, 1, "cubic"), "domain must be one of linear, log, not 'cubic'"),
        ((4, 2, "log"), "domain must be linear when terms is 2, not log"),
    ],
)
def test_construction_errors(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        PowerOfTwo(*arguments)


def test_bad_values_are_named():
    with pytest.raises(ValueError, match=r"^weights must be 0 or ± a power .* 64, not 3$"):
        PowerOfTwo(4).check([1, 3], "weights")
    with pytest.raises(ValueError, match=r"^value must be integers, not float64$"):
        PowerOfTwo(4).check([1.0])
    with pytest.raises(ValueError, match=r"^real must be finite, not nan$"):
        PowerOfTwo(4).quantise([1.0, math.nan], 1.0)
    with pytest.raises(ValueError, match=r"^scale must be above 0, not 0.0$"):
        PowerOfTwo(4).quantise([1.0], 0.0)
    with pytest.raises(ValueError, match=r"^preset must be one of pot2, .*, not 'pot9'$"):
        preset("pot9")


@pytest.mark.parametrize("code", EVERY, ids=str)
def test_round_trips(code: LevelCode):
    codes = np.arange(1 << code.code_bits)
    values = code.decode(codes)
    assert np.array_equal(code.decode(code.encode(values)), values)
    assert np.array_equal(code.quantise(code.values() * 0.375, 0.375), code.values())
    assert np.array_equal(code.values(), -code.values()[::-1])
    # A code is not its own image only where a lower one has the same value.
    again = code.encode(values).astype(np.int64)
    assert (again <= codes).all()


@pytest.mark.parametrize("bits", range(2, 7))
def test_definition_of_one_term(bits):
    """The code: sign, exponent field e; zero, or ±2^(e-1); {1, 0} reads as zero."""
    code = PowerOfTwo(bits)
    for word in range(1 << bits):
        sign, e = word >> (bits - 1), word & ((1 << (bits - 1)) - 1)
        expected = 0 if e == 0 else (-1) ** sign * 2 ** (e - 1)
        assert code.decode(word) == expected
    assert code.encode(0) == 0


@pytest.mark.parametrize("bits", range(2, 7))
def test_definition_of_published_power_of_two_levels(bits):
    """{0, 2^-1, …, 2^-(2^B - 1)} over its maximum, B = bits - 1."""
    B = bits - 1
    levels = sorted({0.0, *(2.0 ** (-i - 1) for i in range(2**B - 1))})
    ours = preset(f"pot{bits}")
    assert (ours.magnitudes / ours.high).tolist() == [v / max(levels) for v in levels]


#: Terms of the published additive levels as negative exponents, by magnitude bits.
ADDITIVE = {
    3: ([1, 2, 3], [], []),
    4: ([1, 2, 4], [3], []),
    5: ([1, 3, 5], [2, 4, 6], []),
    6: ([1, 3, 6], [2, 4, 7], [5]),
}


@pytest.mark.parametrize("bits", ADDITIVE)
def test_definition_of_published_additive_levels(bits):
    a, b, c = ([0.0, *(2.0**-e for e in part)] for part in ADDITIVE[bits])
    levels = sorted({x + y + z for x in a for y in b for z in c})
    ours = preset(f"apot{bits}")
    assert (ours.magnitudes / ours.high).tolist() == [v / max(levels) for v in levels]


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("qkeras4", lambda x, w: x << (w & 7)),
        ("msq4", lambda x, w: (0 if w >> 1 & 3 == 3 else x << (w >> 1 & 3)) + (w & 1) * (x << 2)),
        (
            "potacc-apot4",
            lambda x, w: (0 if w >> 1 & 3 == 1 else x << (w >> 1 & 3)) + (w & 1) * (x << 1),
        ),
    ],
)
def test_definition_of_shift_processing_elements(name, product):
    code = preset(name)
    assert code.code_bits == 4
    for w in range(16):
        sign = -1 if w >> 3 else 1
        assert code.decode(w) * 77 == sign * product(77, w)


@pytest.mark.parametrize("name", [n for n in PRESETS if n not in ("qkeras4", "apot6")])
def test_presets_run_on_a_unit(name):
    """Every level is a code of at most two terms of 2…6 bits."""
    levels = preset(name).values()
    assert any(np.isin(levels, c.values()).all() for c in (*ONE_TERM, *TWO_TERMS))


def brute_force(code: LevelCode, x: np.ndarray) -> np.ndarray:
    """Search every level; on equal distance the larger magnitude."""
    levels = code.values()
    order = levels[np.argsort(-np.abs(levels), kind="stable")]
    found = np.full(x.shape, order[0])
    least = np.abs(x - order[0])
    for level in order[1:]:
        distance = np.abs(x - level)
        nearer = distance < least
        found[nearer], least[nearer] = level, distance[nearer]
    return found


@pytest.mark.parametrize(
    "code",
    [PowerOfTwo(3), PowerOfTwo(4), PowerOfTwo(5), PowerOfTwo(4, 2), preset("apot5")],
    ids=str,
)
def test_nearest_level_on_a_million_values(code):
    """Multiples of 1/64, which float64 holds exactly: every tie between levels is among them."""
    rng = np.random.default_rng(1)
    span = code.high * 80
    exact = np.concatenate([np.arange(-span, span + 1), rng.integers(-span, span, 1_000_000)])[
        :1_100_000
    ]
    thresholds = np.concatenate([code.thresholds, -code.thresholds])
    x = np.concatenate([exact / 64, thresholds, np.nextafter(thresholds, 0)])
    assert x.size >= 1_000_000
    assert np.array_equal(code.quantise(x, 1.0), brute_force(code, x))


def test_ties_go_to_the_larger_magnitude():
    assert PowerOfTwo(4).quantise([0.5, -0.5, 1.5, -3.0, 96.0], 1.0).tolist() == [1, -1, 2, -4, 64]


def test_log_domain_rounds_the_exponent():
    x = np.exp(np.random.default_rng(2).uniform(-1, 5, 10_000))
    exponent = np.clip(np.rint(np.log2(x)), None, 6)
    expected = np.where(exponent < 0, 0, 2.0**exponent)
    assert np.array_equal(PowerOfTwo(4, 1, "log").quantise(x, 1.0), expected)
    assert PowerOfTwo(4).quantise(1.45, 1.0) == 1
    assert PowerOfTwo(4, 1, "log").quantise(1.45, 1.0) == 2


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_calibration_beats_every_scale_on_a_fine_grid(axis):
    """Within 1 % of the least error that 400 other scales reach."""
    w = np.random.default_rng(3).normal(0, 0.2, (6, 200)) * np.arange(1, 7)[:, None]
    code = PowerOfTwo(4)
    scale = code.calibrate(w, axis)
    assert scale.shape == {None: (1, 1), 0: (6, 1), 1: (1, 200)}[axis]
    error = ((code.quantise(w, scale) * scale - w) ** 2).sum()
    if axis is None:
        grid = np.abs(w).max() / 64 * np.geomspace(0.3, 3, 400)
        assert error <= 1.01 * min(((code.quantise(w, s) * s - w) ** 2).sum() for s in grid)
    else:
        one = code.calibrate(w)
        assert error < ((code.quantise(w, one) * one - w) ** 2).sum()


def test_calibration_finds_weights_that_are_powers_already():
    w = np.array([0, 1, -2, 64, 8, -4, 16]) * 0.0173
    scale = PowerOfTwo(4).calibrate(w)
    assert PowerOfTwo(4).quantise(w, scale).tolist() == [0, 1, -2, 64, 8, -4, 16]
    assert scale == pytest.approx(0.0173)
    assert PowerOfTwo(4).calibrate(np.zeros((2, 3)), 0).shape == (2, 1)


def test_statistics():
    found = PowerOfTwo(4).statistics([0.0, 1.0, 3.0], 1.0)
    assert (found.mean_squared, found.maximum) == (pytest.approx(1 / 3), 1.0)
    assert found.zeros == pytest.approx(1 / 3)
    assert found.sqnr_db == pytest.approx(10)
    assert PowerOfTwo(4).statistics([1.0], 1.0).sqnr_db == math.inf


def test_split_into_terms():
    code = PowerOfTwo(4, 2)
    for value in code.values().tolist():
        assert sum(code.split(value)) == value
    assert code.split(4) == [4, 0]


@pytest.mark.parametrize(("bits", "word"), [(4, 32), (3, 32), (5, 8), (8, 8), (12, 64), (1, 1)])
def test_packing_round_trips(bits, word):
    codes = np.random.default_rng(4).integers(0, 1 << bits, 101)
    words = pack(codes, bits, word)
    assert words.size == -(-101 // (word // bits))
    assert np.array_equal(unpack(words, bits, 101, word), codes)
    assert pack([1, 2, 3], 4).tolist() == [0x321]
    assert pack([], 4).size == 0


def test_packing_errors():
    with pytest.raises(ValueError, match=r"^code must be between 0 and 15, not 16$"):
        pack([16], 4)
    with pytest.raises(ValueError, match=r"^code_bits must be between 1 and word_bits, not 9$"):
        pack([1], 9, 8)
    with pytest.raises(ValueError, match=r"^count must be at most the 8 held, not 9$"):
        unpack([0], 4, 9)
