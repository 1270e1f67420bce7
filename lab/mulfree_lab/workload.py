"""Weights and activations of a real network, as a core of a given precision gets them.

Tiles are cut out of the layers of a fully connected network; the activations are what its test
images make of its layers, image after image, as a weight-stationary core sees them in a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mulfree.units.core import CoreSpec
from mulfree.units.pot import PoTSpec
from mulfree_models import digits
from mulfree_models.digits import FloatNetwork


@dataclass(frozen=True)
class Tile:
    """Weights of shape (outputs, lanes), activations of shape (n, lanes), both integers."""

    weights: NDArray[np.int64]
    act: NDArray[np.int64]


def tiles(
    spec: CoreSpec, network: FloatNetwork, count: int, vectors: int, seed: int = 0
) -> list[Tile]:
    """Return `count` tiles, spread over the layers by their number of products.

    Activations use the whole range of their width at the largest value of a layer; weights are
    coded with a scale for each layer (power-of-two weights are levels already).
    """
    rng = np.random.default_rng(seed)
    images = digits.scaled(digits.load().test_images)[:vectors]
    given = network.activations(images)
    sizes = np.array([layer.weights.size for layer in network.layers], float)
    found = []
    for place in rng.choice(len(sizes), count, p=sizes / sizes.sum()):
        weights = coded(spec, network.layers[place].weights)
        act = given[place]
        whole = np.round(act * (spec.act_format.high / act.max())).astype(np.int64)
        rows = rng.choice(len(weights), spec.outputs, replace=len(weights) < spec.outputs)
        start = rng.integers(0, max(weights.shape[1] - spec.lanes, 0) + 1)
        lanes = (start + np.arange(spec.lanes)) % weights.shape[1]
        found.append(Tile(weights[np.ix_(rows, lanes)], whole[:, lanes]))
    return found


def coded(spec: CoreSpec, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a layer's weights as the integers that the core's weight format has for them."""
    if isinstance(spec, PoTSpec):
        form = spec.weight_format
        scale = form.calibrate(weights, 0)
        return np.asarray(form.quantise(weights, scale)).astype(np.int64)
    high = spec.weight_format.high
    return np.round(weights * (high / np.abs(weights).max())).astype(np.int64)


def share_of_zeros(found: list[Tile]) -> Iterator[float]:
    """Return the share of zeros among the weights, then among the activations."""
    yield float(np.mean([np.mean(tile.weights == 0) for tile in found]))
    yield float(np.mean([np.mean(tile.act == 0) for tile in found]))
