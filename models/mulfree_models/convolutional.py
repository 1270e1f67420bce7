"""The convolutional digits network: six convolutions in three groups, a pool behind each, a dense
layer; 8-bit activations and weights, made by `mulfree_models.recipes.convolutional`.
"""

import json
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.formats import Int
from mulfree_models.digits import PIXEL_HIGH
from mulfree_models.graph import Array, Conv2D, Dense, Graph, Op, Pool, Tensor

FILE = "digits_convolutional.npz"
SIDE = 8
#: Channels of the groups' convolutions.
GROUPS = ((16, 16), (24, 24), (32, 32))
#: Codes of pixels: all sixteen steps, and the same factor for the network's input as for a map.
INTEGER = Int(8)


def coded(images: ArrayLike) -> Array:
    """Return rows of pixels 0…16 as the network's input codes, shape (n, 8, 8, 1)."""
    pixels = np.asarray(images, np.int64).reshape(-1, SIDE, SIDE, 1)
    return np.rint(pixels * (255 / PIXEL_HIGH)).astype(np.int64) + INTEGER.low


def build(arrays: dict[str, NDArray[Any]]) -> Graph:
    """Return the graph of the layers' arrays.

    Parameters
    ----------
    arrays
        ``scale`` and ``zero_point`` of the input and of every layer's output; ``weightsN``,
        ``biasN``, ``multiplierN`` and ``shiftN`` of layer N.
    """
    formats = list(zip(arrays["scale"].tolist(), arrays["zero_point"].tolist(), strict=True))
    tensors = {"input": Tensor("input", (SIDE, SIDE, 1), INTEGER, *formats[0])}
    ops: list[Op] = []
    at, side, number = "input", SIDE, 0

    def layer(inputs: str, output: str, shape: tuple[int, ...]) -> dict[str, Any]:
        scale, zero_point = formats[number + 1]
        tensors[output] = Tensor(output, shape, INTEGER, scale, zero_point)
        parts = ("weights", "bias", "multiplier", "shift")
        values = {part: arrays[f"{part}{number}"].astype(np.int64) for part in parts}
        bounds = {"low": INTEGER.low, "high": INTEGER.high}
        return values | bounds | {"inputs": (inputs,), "output": output}

    for group, channels in enumerate(GROUPS, 1):
        for place, outputs in enumerate(channels, 1):
            output = f"conv{group}.{place}"
            own = layer(at, output, (side, side, outputs))
            ops.append(Conv2D(name="conv2d", padding=(1, 1, 1, 1), **own))
            at, number = output, number + 1
        side //= 2
        output, source = f"pool{group}", tensors[at]
        tensors[output] = Tensor(
            output, (side, side, channels[-1]), INTEGER, source.scale, source.zero_point
        )
        ops.append(
            Pool(
                name="max pool", inputs=(at,), output=output, kind="max", kernel=(2, 2),
                stride=(2, 2), padding=(0, 0, 0, 0), low=INTEGER.low, high=INTEGER.high,
            )
        )  # fmt: skip
        at = output
    ops.append(Dense(name="dense", **layer(at, "dense", (10,))))
    return Graph("convolutional digits", tensors, tuple(ops), "input", "dense", "single")


def _arrays() -> dict[str, NDArray[Any]]:
    with resources.files("mulfree_models").joinpath("data", FILE).open("rb") as file:
        return dict(np.load(file))


def graph() -> Graph:
    """Return the shipped network."""
    return build(_arrays())


def measured() -> dict[str, Any]:
    """Return what was measured when the network was trained."""
    return json.loads(str(_arrays()["measured"]))
