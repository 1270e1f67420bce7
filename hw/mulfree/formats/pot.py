"""Power-of-two weight codes of one or two terms, and the published level sets of their kind.

Przewlocka-Rus and others, "Power-of-Two Quantization for Low Bitwidth and Hardware Compliant
Neural Networks", 2022; the code is a reconstruction. Additive terms: Li, Dong and Wang, "Additive
Powers-of-Two Quantization", ICLR 2020.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DOMAINS = ("linear", "log")


@dataclass(frozen=True)
class ErrorStatistics:
    """How far quantised reals are from the reals.

    Members
    -------
    mean_squared, maximum
        Of the error, in the units of the reals.
    sqnr_db
        Power of the reals over power of the error, in decibels; infinite without an error.
    zeros
        Fraction of the values that became zero.
    """

    mean_squared: float
    maximum: float
    sqnr_db: float
    zeros: float


class LevelCode:
    """Integers behind codes, any set of them that holds the negative of each member.

    A subclass gives `code_bits` and `table`; a code that repeats another's value is read, never
    written.
    """

    @property
    def code_bits(self) -> int:
        """Width of a code."""
        raise NotImplementedError(f"{type(self).__name__} has no width")

    @property
    def table(self) -> NDArray[np.int64]:
        """Value of every code, shape (2^code_bits,)."""
        raise NotImplementedError(f"{type(self).__name__} has no table")

    @cached_property
    def _coding(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every value, smallest first, and the lowest code of each."""
        return np.unique(self.table, return_index=True)

    @property
    def low(self) -> int:
        """Smallest value."""
        return int(self.values()[0])

    @property
    def high(self) -> int:
        """Largest value."""
        return int(self.values()[-1])

    def values(self) -> NDArray[np.int64]:
        """Return every value, smallest first."""
        return self._coding[0]

    @property
    def magnitudes(self) -> NDArray[np.int64]:
        """Distinct absolute values, smallest first."""
        return np.unique(np.abs(self.values()))

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Where rounding goes from one magnitude to the next; the threshold itself goes up."""
        levels = self.magnitudes.astype(np.float64)
        return (levels[:-1] + levels[1:]) / 2

    def check(self, values: ArrayLike, name: str = "value") -> NDArray[np.int64]:
        """Return the values as int64, or raise a ValueError that names the first without a code."""
        array = np.asarray(values)
        if array.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers, not {array.dtype}")
        outside = array[~np.isin(array, self.values())]
        if outside.size:
            raise ValueError(f"{name} must be {self._rule}, not {outside.flat[0]}")
        return array.astype(np.int64)

    @property
    def _rule(self) -> str:
        return f"one of {', '.join(str(v) for v in self.values())}"

    def quantise(self, real: ArrayLike, scale: ArrayLike) -> NDArray[np.int64]:
        """Return the level nearest to ``real / scale``, the larger magnitude on a tie.

        Parameters
        ----------
        real
            Finite numbers of any shape.
        scale
            What a level of 1 stands for: one number, or an array that broadcasts, one a channel.

        Raises
        ------
        ValueError
            A number is not finite, or a scale not positive.
        """
        x = _finite(real) / _positive(scale)
        nearest = self.magnitudes[np.searchsorted(self.thresholds, np.abs(x), side="right")]
        return np.where(x < 0, -nearest, nearest)

    def encode(self, values: ArrayLike) -> NDArray[np.uint64]:
        """Return the codes of values; of several, the lowest."""
        known, codes = self._coding
        return codes[np.searchsorted(known, self.check(values))].astype(np.uint64)

    def decode(self, codes: ArrayLike) -> NDArray[np.int64]:
        """Return the values of codes; bits above the width are ignored."""
        mask = np.uint64((1 << self.code_bits) - 1)
        return self.table[(np.asarray(codes).astype(np.uint64) & mask).astype(np.int64)]

    def calibrate(
        self, real: ArrayLike, axis: int | None = None, *, candidates: int = 48
    ) -> NDArray[np.float64]:
        """Return the scale with the least squared error.

        Candidates spread over a factor of four around "the largest real is the largest level";
        the best is then refined: the least-squares scale of the levels chosen, levels chosen anew,
        and so on while the error falls.

        Parameters
        ----------
        axis
            A scale for each index of this axis; one scale for all when None.

        Returns
        -------
        An array that broadcasts against `real`; all-zero channels get 1.
        """
        w = _finite(real)
        kept = () if axis is None else (axis % w.ndim,)
        others = tuple(i for i in range(w.ndim) if i not in kept)
        peak = np.abs(w).max(axis=others, keepdims=True, initial=0.0)
        top = np.where(peak > 0, peak, self.high) / self.high
        best, least = top, self._squared_error(w, top, others)
        for factor in np.geomspace(0.5, 2.0, candidates):
            best, least = self._better(w, top * factor, others, best, least)
        for _ in range(8):
            q = self.quantise(w, best).astype(np.float64)
            power = (q * q).sum(axis=others, keepdims=True)
            fitted = (w * q).sum(axis=others, keepdims=True) / np.where(power > 0, power, 1)
            trial = np.where(fitted > 0, fitted, best)
            best, least = self._better(w, trial, others, best, least)
        return best

    def _squared_error(self, w: NDArray, scale: NDArray, axes: tuple[int, ...]) -> NDArray:
        return ((self.quantise(w, scale) * scale - w) ** 2).sum(axis=axes, keepdims=True)

    def _better(
        self, w: NDArray, trial: NDArray, axes: tuple[int, ...], best: NDArray, least: NDArray
    ) -> tuple[NDArray, NDArray]:
        error = self._squared_error(w, trial, axes)
        return np.where(error < least, trial, best), np.minimum(error, least)

    def statistics(self, real: ArrayLike, scale: ArrayLike) -> ErrorStatistics:
        """Return how well the levels at this scale stand for the reals."""
        w = _finite(real)
        q = self.quantise(w, scale)
        error = q * np.asarray(scale, dtype=np.float64) - w
        power, noise = float((w**2).sum()), float((error**2).sum())
        return ErrorStatistics(
            mean_squared=float((error**2).mean()),
            maximum=float(np.abs(error).max()),
            sqnr_db=float(10 * np.log10(power / noise)) if noise and power else float("inf"),
            zeros=float((q == 0).mean()),
        )


@dataclass(frozen=True)
class PowerOfTwo(LevelCode):
    """Zero and plus or minus powers of two, or sums of two of them.

    A term of `bits` bits is a sign bit above an exponent field e: zero for e = 0, else
    ``±2^(e-1)``. The code with the sign and e = 0 is reserved and reads as zero. Two terms lie side
    by side, the first in the low bits; the value is their sum.

    Parameters
    ----------
    bits
        Width of a term, 2…6.
    terms
        1 or 2.
    domain
        ``linear`` rounds to the nearest level (threshold 0.75 · 2^e); ``log`` rounds the logarithm
        (threshold 2^(e-1/2)), one term only.

    Raises
    ------
    ValueError
        A parameter is out of its range.
    """

    bits: int
    terms: int = 1
    domain: str = "linear"

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not 2 <= self.bits <= 6:
            raise ValueError(f"bits must be between 2 and 6, not {self.bits}")
        if self.terms not in (1, 2):
            raise ValueError(f"terms must be 1 or 2, not {self.terms}")
        if self.domain not in DOMAINS:
            raise ValueError(f"domain must be one of {', '.join(DOMAINS)}, not {self.domain!r}")
        if self.domain == "log" and self.terms == 2:
            raise ValueError("domain must be linear when terms is 2, not log")

    @property
    def code_bits(self) -> int:
        """Width of a code."""
        return self.bits * self.terms

    @property
    def max_shift(self) -> int:
        """Exponent of the largest power."""
        return (1 << (self.bits - 1)) - 2

    @property
    def table(self) -> NDArray[np.int64]:
        """Value of every code."""
        powers = np.array([0, *(1 << e for e in range(self.max_shift + 1))])
        one = np.concatenate([powers, -powers])
        return one if self.terms == 1 else np.add.outer(one, one).ravel()

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Where rounding goes from one magnitude to the next; the threshold itself goes up."""
        if self.domain == "linear":
            return super().thresholds
        return np.sqrt(0.5) * self.magnitudes[1:]

    @property
    def _rule(self) -> str:
        power = f"a power of two up to {1 << self.max_shift}"
        return f"0 or ± {power}" if self.terms == 1 else f"a sum of two of 0 and ± {power}"

    def split(self, value: int) -> list[int]:
        """Return the terms of a value, each 0 or a power of two or its negative."""
        code, one = int(self.encode(value)), PowerOfTwo(self.bits)
        return [int(one.decode(code >> (self.bits * t))) for t in range(self.terms)]


@dataclass(frozen=True)
class LevelSet(LevelCode):
    """A published level set: a sign bit above a field that picks a magnitude.

    Members
    -------
    name
        Of the preset.
    field
        Magnitude of every value of the field, in units of the smallest power used.
    source
        Where the definition stands.
    """

    name: str
    field: tuple[int, ...]
    source: str

    @property
    def code_bits(self) -> int:
        """Width of a code."""
        return (len(self.field) - 1).bit_length() + 1

    @property
    def table(self) -> NDArray[np.int64]:
        """Value of every code."""
        magnitudes = np.array(self.field, dtype=np.int64)
        return np.concatenate([magnitudes, -magnitudes])


def _additive(*parts: tuple[int, ...]) -> tuple[int, ...]:
    """Return every sum of one member of each part; the last part's index is the lowest bits."""
    return tuple(sum(choice) for choice in product(*parts))


_POTACC = "gicLAB/PoTAcc, shift-PE definitions (ICECS 2024)"
_APOT = "Li, Dong, Wang: Additive Powers-of-Two Quantization, ICLR 2020, and its published code"


def _powers(bits: int) -> LevelSet:
    field = tuple(int(v) for v in PowerOfTwo(bits).table[: 1 << (bits - 1)])
    return LevelSet(f"pot{bits}", field, f"{_APOT}, the non-additive branch")


#: Published level sets by name. Magnitudes are scaled to integers.
PRESETS: dict[str, LevelSet] = {
    preset.name: preset
    for preset in (
        *(_powers(bits) for bits in range(2, 7)),
        LevelSet("qkeras4", tuple(1 << e for e in range(8)), f"{_POTACC}; no zero"),
        LevelSet("msq4", _additive((1, 2, 4, 0), (0, 4)), _POTACC),
        LevelSet("potacc-apot4", _additive((1, 0, 4, 8), (0, 2)), _POTACC),
        LevelSet("apot3", (0, 1, 2, 4), _APOT),
        LevelSet("apot4", _additive((0, 1, 4, 8), (0, 2)), _APOT),
        LevelSet("apot5", _additive((0, 2, 8, 32), (0, 1, 4, 16)), _APOT),
        LevelSet("apot6", _additive((0, 2, 16, 64), (0, 1, 8, 32), (0, 4)), _APOT),
    )
}


def preset(name: str) -> LevelSet:
    """Return a published level set.

    Raises
    ------
    ValueError
        There is none of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}")
    return PRESETS[name]


def pack(codes: ArrayLike, code_bits: int, word_bits: int = 32) -> NDArray[np.uint64]:
    """Pack codes into words, the first in the low bits; no code straddles two words.

    Raises
    ------
    ValueError
        A width is out of its range, or a code does not fit.
    """
    per_word = _per_word(code_bits, word_bits)
    flat = np.asarray(codes).ravel()
    if flat.size and not 0 <= flat.min() <= flat.max() < 1 << code_bits:
        wrong = flat[(flat < 0) | (flat >= 1 << code_bits)][0]
        raise ValueError(f"code must be between 0 and {(1 << code_bits) - 1}, not {wrong}")
    rows = -(-flat.size // per_word)
    padded = np.zeros(rows * per_word, np.uint64)
    padded[: flat.size] = flat
    places = np.arange(per_word, dtype=np.uint64) * np.uint64(code_bits)
    return np.bitwise_or.reduce(padded.reshape(rows, per_word) << places, axis=1)


def unpack(words: ArrayLike, code_bits: int, count: int, word_bits: int = 32) -> NDArray[np.uint64]:
    """Return the first `count` codes of packed words.

    Raises
    ------
    ValueError
        A width is out of its range, or the words hold fewer codes.
    """
    per_word = _per_word(code_bits, word_bits)
    packed = np.asarray(words).astype(np.uint64).ravel()
    if not 0 <= count <= packed.size * per_word:
        raise ValueError(f"count must be at most the {packed.size * per_word} held, not {count}")
    places = np.arange(per_word, dtype=np.uint64) * np.uint64(code_bits)
    codes = (packed[:, None] >> places) & np.uint64((1 << code_bits) - 1)
    return codes.ravel()[:count]


def _per_word(code_bits: int, word_bits: int) -> int:
    if not 1 <= word_bits <= 64:
        raise ValueError(f"word_bits must be between 1 and 64, not {word_bits}")
    if not 1 <= code_bits <= word_bits:
        raise ValueError(f"code_bits must be between 1 and word_bits, not {code_bits}")
    return word_bits // code_bits


def _finite(real: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(real, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"real must be finite, not {array[~np.isfinite(array)].flat[0]}")
    return array


def _positive(scale: Any) -> NDArray[np.float64]:
    array = np.asarray(scale, dtype=np.float64)
    if not (array > 0).all():
        raise ValueError(f"scale must be above 0, not {array[~(array > 0)].flat[0]}")
    return array
