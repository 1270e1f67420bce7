"""Golden model of the Walsh-Hadamard transforms, natural order, unnormalised."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.formats.planes import hadamard
from mulfree.units.wht import TransformSpec
from mulfree_sim.golden import rounding

__all__ = ["crop", "fast", "hadamard", "pad", "transform"]


def fast(samples: ArrayLike) -> NDArray[np.int64]:
    """Return ``H·x`` along the last axis, whose length is a power of two, level by level."""
    values = np.array(samples, np.int64)
    points, stride = values.shape[-1], 1
    while stride < points:
        pairs = values.reshape(*values.shape[:-1], -1, 2, stride)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        values = np.stack([low + high, low - high], axis=-2).reshape(values.shape)
        stride *= 2
    return values


def pad(spec: TransformSpec, samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return vectors (..., samples) with zeros behind each dimension, (..., padded)."""
    shape = [real for real, _ in reversed(spec.runs)]
    grown = [(0, total - real) for real, total in reversed(spec.runs)]
    lead = samples.shape[:-1]
    cube = np.pad(samples.reshape(*lead, *shape), [(0, 0)] * len(lead) + grown)
    return cube.reshape(*lead, spec.padded)


def crop(spec: TransformSpec, results: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return vectors (..., padded) without what `pad` adds, (..., samples)."""
    lead = results.shape[:-1]
    cube = results.reshape(*lead, *[total for _, total in reversed(spec.runs)])
    kept = tuple(slice(real) for real, _ in reversed(spec.runs))
    return cube[(..., *kept)].reshape(*lead, spec.samples)


def transform(spec: TransformSpec, samples: ArrayLike) -> NDArray[np.int64]:
    """Return what the unit makes of vectors.

    Parameters
    ----------
    samples
        Shape (..., in_length): a vector, or a map row by row.

    Returns
    -------
    Shape (..., out_length): every block of `size` padded samples transformed, shifted with rounding
    (half up) and saturated.
    """
    values = spec.sample_format.check(samples, "samples")
    if spec.direction == "forward":
        values = pad(spec, values)
    blocks = fast(values.reshape(*values.shape[:-1], -1, spec.size))
    sums = blocks.reshape(*values.shape[:-1], spec.padded)
    results = rounding.saturate(rounding.shift_half_up(sums, spec.round_shift), spec.result_bits)
    return crop(spec, results) if spec.direction == "inverse" else results
