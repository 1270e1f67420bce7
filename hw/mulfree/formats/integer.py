"""Two's complement and unsigned integers of any width."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Int:
    """An integer of `bits` bits, two's complement when `signed`.

    Raises
    ------
    ValueError
        `bits` is not in 1…64.
    """

    bits: int
    signed: bool = True

    def __post_init__(self) -> None:
        """Check the width."""
        if not 1 <= self.bits <= 64:
            raise ValueError(f"bits must be between 1 and 64, not {self.bits}")

    @property
    def code_bits(self) -> int:
        """Width of a code, that of the integer."""
        return self.bits

    @property
    def low(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest value."""
        return (1 << (self.bits - self.signed)) - 1

    def values(self) -> NDArray[np.int64]:
        """Return every value, smallest first."""
        return np.arange(self.low, self.high + 1, dtype=np.int64)

    def check(self, values: ArrayLike, name: str = "value") -> NDArray[np.int64]:
        """Return the values as int64; a ValueError names the first outside the range."""
        array = np.asarray(values)
        if array.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers, not {array.dtype}")
        outside = array[(array < self.low) | (array > self.high)]
        if outside.size:
            raise ValueError(
                f"{name} must be between {self.low} and {self.high}, not {outside.flat[0]}"
            )
        return array.astype(np.int64)

    def quantise(self, real: ArrayLike, scale: ArrayLike) -> NDArray[np.int64]:
        """Round `real / scale` half to even, saturated to the range."""
        steps = np.rint(np.asarray(real, dtype=np.float64) / scale)
        return np.clip(steps, self.low, self.high).astype(np.int64)

    def encode(self, values: ArrayLike) -> NDArray[np.uint64]:
        """Return the bit patterns as unsigned integers."""
        mask = np.uint64((1 << self.bits) - 1)
        return self.check(values).astype(np.uint64) & mask

    def decode(self, patterns: ArrayLike) -> NDArray[np.int64]:
        """Return the values of bit patterns; bits above the width are ignored."""
        shift = np.uint64(64 - self.bits)
        shifted = np.asarray(patterns).astype(np.uint64) << shift
        if self.signed:
            return shifted.astype(np.int64) >> np.int64(shift)
        return (shifted >> shift).astype(np.int64)
