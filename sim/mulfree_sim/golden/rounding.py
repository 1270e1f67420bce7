"""Golden model of `arith.rounding`, by the definitions; NumPy int64."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def shift_half_up(value: ArrayLike, amount: ArrayLike) -> NDArray[np.int64]:
    """Return ``floor(value / 2^amount + 1/2)``; values below 2^62 in magnitude."""
    value, amount = np.asarray(value, np.int64), np.asarray(amount, np.int64)
    return (value + ((np.int64(1) << amount) >> 1)) >> amount


def shift_half_away(value: ArrayLike, amount: ArrayLike) -> NDArray[np.int64]:
    """Return ``sign(value) · floor(|value| / 2^amount + 1/2)``; values below 2^62 in magnitude."""
    value = np.asarray(value, np.int64)
    return np.sign(value) * shift_half_up(np.abs(value), amount)


def saturate(value: ArrayLike, bits: int, is_signed: bool = True) -> NDArray[np.int64]:
    """Return the nearest integer of `bits` bits."""
    low = -(1 << (bits - 1)) if is_signed else 0
    return np.clip(np.asarray(value, np.int64), low, low + (1 << bits) - 1)
