"""Golden model of the requantizer: gemmlowp's fixed-point arithmetic as TFLite's kernels use it.

Source: ``MultiplyByQuantizedMultiplier`` in ``tensorflow/lite/kernels/internal/common.h``, and for
its double rounding ``SaturatingRoundingDoublingHighMul`` and ``RoundingDivideByPOT`` in
``gemmlowp/fixedpoint/fixedpoint.h``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.engine.requantizer import RequantizerSpec
from mulfree.formats import Int
from mulfree_sim.golden import rounding


@dataclass(frozen=True)
class ChannelParameters:
    """What each output channel of a layer is requantized with, arrays of shape (channels,).

    The real factor of a channel is ``multiplier / 2^multiplier_bits · 2^shift``.
    """

    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]


def saturating_rounding_doubling_high_mul(
    a: ArrayLike, b: ArrayLike, bits: int = 31
) -> NDArray[np.int64]:
    """Return ``a · b / 2^bits`` to nearest, ties towards plus infinity, for ``b ≥ 0``.

    gemmlowp saturates the one product ``-2^31 · -2^31``; a multiplier ≥ 0 never makes it.
    """
    return rounding.shift_half_up(np.asarray(a, np.int64) * np.asarray(b, np.int64), bits)


def multiply_by_quantized_multiplier(
    x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, how: str = "single", bits: int = 31
) -> NDArray[np.int64]:
    """Return ``x · multiplier / 2^bits · 2^shift``, rounded once or twice (see the unit).

    In C++ `x` shifted to the left may overflow, which leaves the result open; here it does not.
    """
    x, shift = np.asarray(x, np.int64), np.asarray(shift, np.int64)
    if how == "single":
        product = x * np.asarray(multiplier, np.int64)
        return rounding.shift_half_up(product, bits - shift)
    shifted = rounding.saturate(x << np.maximum(shift, 0), 32)
    high = saturating_rounding_doubling_high_mul(shifted, multiplier, bits)
    return rounding.shift_half_away(high, np.maximum(-shift, 0))


def requantize(
    spec: RequantizerSpec,
    acc: ArrayLike,
    parameters: ChannelParameters,
    zero_point: int,
    low: int,
    high: int,
) -> NDArray[np.int64]:
    """Return the outputs of a layer.

    Parameters
    ----------
    acc
        Accumulators, shape (..., channels).
    zero_point, low, high
        What is added, and the range that the sum is clamped to; all within the output's range.

    Returns
    -------
    Shape (..., channels).
    """
    acc = Int(spec.acc_bits).check(acc, "acc")
    total = Int(spec.acc_bits).decode(acc + parameters.bias)
    scaled = multiply_by_quantized_multiplier(
        total, parameters.multiplier, parameters.shift, spec.rounding, spec.multiplier_bits
    )
    return np.clip(scaled + zero_point, low, high)
