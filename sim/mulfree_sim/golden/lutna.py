"""Golden model of LUT-NA: a product is a sum of looked-up digit products."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.units.lutna import LutNASpec


def digits(spec: LutNASpec, act: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut activations into digits, lowest first: ``act = Σ_c digit_c · 2^(c · digit_bits)``.

    The top digit is signed when the activation is.
    """
    k, n = spec.digit_bits, spec.act_digits
    low = [(act >> (k * c)) & ((1 << k) - 1) for c in range(n - 1)]
    return [*low, act >> (k * (n - 1))]


def matvec(spec: LutNASpec, weights: ArrayLike, act: ArrayLike) -> NDArray[np.int64]:
    """Return ``Σ_l Σ_c W[o, l] · digit_c(act[..., l]) · 2^(c · digit_bits)``.

    `drop_digits` leaves the lowest digits out; with `compensation` they count as half of their
    range (A-LUT-NA; LUNA-CIM's ApproxD&C with Z_LSB = 0 or a constant multiple of W).

    Parameters
    ----------
    weights
        Shape (outputs, lanes).
    act
        Shape (..., lanes).

    Returns
    -------
    Shape (..., outputs).
    """
    W = spec.weight_format.check(weights, "weights")
    kept = list(enumerate(digits(spec, spec.act_format.check(act, "act"))))[spec.drop_digits :]
    result = sum((d @ W.T) << (c * spec.digit_bits) for c, d in kept)
    return np.asarray(result + W.sum(axis=1) * spec.compensation_value)


@dataclass(frozen=True)
class ErrorStatistics:
    """How far an approximate product is from the exact one, over all pairs.

    Members
    -------
    mean
        Mean of (approximate - exact).
    mean_absolute, maximum_absolute
        Of the error distance.
    nmed
        Normalised mean error distance: `mean_absolute` over the largest exact product.
    """

    mean: float
    mean_absolute: float
    maximum_absolute: int
    nmed: float


def error_statistics(spec: LutNASpec, weights: ArrayLike | None = None) -> ErrorStatistics:
    """Return the exact error statistics of one product over every activation and weight.

    Parameters
    ----------
    weights
        Only these weights; every value of the weight format when not given.
    """
    one = spec.single()
    chosen = one.weight_format.values() if weights is None else np.asarray(weights)
    act = one.act_format.values()
    W = chosen[:, None, None]
    approximate = np.stack([matvec(one, w, act[:, None])[:, 0] for w in W])
    exact = chosen[:, None] * act
    error = approximate - exact
    return ErrorStatistics(
        mean=float(error.mean()),
        mean_absolute=float(np.abs(error).mean()),
        maximum_absolute=int(np.abs(error).max()),
        nmed=float(np.abs(error).mean() / np.abs(exact).max()),
    )
