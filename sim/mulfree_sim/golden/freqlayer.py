"""Golden model of the frequency layer, and its real-valued forms for training."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.units.freqlayer import FreqLayerSpec
from mulfree_sim.golden import rounding, wht


def soft(value: ArrayLike, threshold: ArrayLike) -> NDArray:
    """Return ``sign(x) · max(|x| − T, 0)``; integers stay integers."""
    value = np.asarray(value)
    return np.sign(value) * np.maximum(np.abs(value) - threshold, 0)


def smooth(value: ArrayLike, threshold: ArrayLike) -> NDArray[np.float64]:
    """Return ``tanh(x) · max(|x| − T, 0)`` (arXiv 2104.07085): `soft` made smooth."""
    value = np.asarray(value, np.float64)
    return np.tanh(value) * np.maximum(np.abs(value) - threshold, 0)


def hard(value: ArrayLike, threshold: ArrayLike) -> NDArray:
    """Return x where ``|x| > T``, else 0."""
    value = np.asarray(value)
    return np.where(np.abs(value) > threshold, value, 0)


def layer(
    spec: FreqLayerSpec,
    samples: ArrayLike,
    thresholds: ArrayLike | None = None,
    gains: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Return what the unit makes of vectors, bit for bit.

    Parameters
    ----------
    samples
        Shape (..., channels).
    thresholds, gains
        Shape (coefficients,); constants come from the Spec.

    Returns
    -------
    Shape (..., channels).
    """
    samples = spec.sample_format.check(samples, "samples")
    values = wht.transform(spec.forward, samples)
    if spec.gain != "none":
        values = values * np.asarray(spec.gains[0] if spec.gains else gains, np.int64)
    limits = np.array(spec.thresholds[0] if spec.thresholds else thresholds, np.int64)
    if not spec.threshold_dc:
        limits[:: spec.block] = 0
    results = wht.transform(spec.inverse, soft(values, limits))
    if spec.residual:
        results = results + samples
    return rounding.saturate(results, spec.result_bits)


def real(
    samples: ArrayLike,
    thresholds: ArrayLike,
    gains: ArrayLike = 1.0,
    *,
    shrink: Callable[[NDArray, ArrayLike], NDArray] = smooth,
    threshold_dc: bool = True,
    residual: bool = False,
) -> NDArray[np.float64]:
    """Return the layer on real numbers, one block, each transform scaled by ``1/√N``.

    Parameters
    ----------
    samples
        Shape (..., channels), padded to the length of `thresholds`, a power of two.
    shrink
        `smooth`, `soft` or `hard`.
    """
    samples = np.asarray(samples, np.float64)
    limits = np.array(thresholds, np.float64)
    points, channels = limits.size, samples.shape[-1]
    if not threshold_dc:
        limits[0] = 0
    H = wht.hadamard(points) / np.sqrt(points)
    values = samples @ H[:channels] * gains
    kept = shrink(values, limits)
    if not threshold_dc:
        kept[..., 0] = values[..., 0]  # as it is: `smooth` would bend it
    results = (kept @ H)[..., :channels]
    return results + samples if residual else results
