"""A convolutional network whose 1 × 1 convolutions are frequency layers on the bit-plane array.

Integers throughout. Two 3 × 3 convolutions with 8-bit weights, each followed by a frequency layer
over blocks of 16 channels: the bit-plane array's ternary transform and soft threshold, then the
exact Walsh-Hadamard transform back, then ReLU; a fully connected layer at the end. Between a
convolution and the array, values are rounded to a sign and `planes` magnitude bits by a shift.

The trained digits network is shipped; `mulfree_models.recipes.frequency` makes it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.formats.planes import hadamard
from mulfree.units.bitplane import BitPlaneSpec
from mulfree_sim.golden import bitplane

#: Points of a block: rows and columns of a tile.
BLOCK = 16
#: The shipped network.
FILE = "digits_frequency.npz"

#: What stands for the array: (Spec, vectors (n, inputs), thresholds) to results (n, outputs).
Array = Callable[[BitPlaneSpec, NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]


@dataclass(frozen=True)
class Stage:
    """A 3 × 3 convolution with zero padding of 1, and the frequency layer behind it.

    Members
    -------
    weights : (channels, inputs, 3, 3), 8 bits
    bias : (channels,)
    shift : int
        The convolution's sum is rounded by this many bits, then saturated to the array's inputs.
    stride : int
    thresholds : (channels,)
    """

    weights: NDArray[np.int64]
    bias: NDArray[np.int64]
    shift: int
    stride: int
    thresholds: NDArray[np.int64]

    @property
    def spec(self) -> BitPlaneSpec:
        """The array that takes all channels of a position at once, a tile a block."""
        return BitPlaneSpec(tiles=len(self.bias) // BLOCK)

    def vectors(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the array's inputs, (n, rows, columns, channels), for x of (n, inputs, …, …)."""
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride].transpose(0, 2, 3, 1, 4, 5)
        taps = windows.reshape(*windows.shape[:3], -1)
        total = taps @ self.weights.reshape(len(self.bias), -1).T + self.bias
        half = (1 << self.shift) >> 1
        high = (1 << self.spec.planes) - 1
        return np.clip((total + half) >> self.shift, -high, high)

    def back(self, spectrum: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return ReLU of the transform of each block, (n, channels, rows, columns)."""
        blocks = spectrum.reshape(*spectrum.shape[:3], -1, BLOCK) @ hadamard(BLOCK)
        return np.maximum(blocks, 0).reshape(spectrum.shape).transpose(0, 3, 1, 2)


def golden(
    spec: BitPlaneSpec, vectors: NDArray[np.int64], thresholds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Stand for the array by its golden model."""
    return bitplane.transform(spec, vectors, thresholds).result


@dataclass(frozen=True)
class FrequencyNetwork:
    """The stages, the fully connected layer, and what was measured when they were trained."""

    stages: Sequence[Stage]
    weights: NDArray[np.int64]
    bias: NDArray[np.int64]
    measured: dict[str, Any]

    def vectors(self, images: ArrayLike, array: Array = golden) -> list[NDArray[np.int64]]:
        """Return the array's inputs in each stage for images of shape (n, rows, columns)."""
        return self._run(images, array)[1]

    def classify(self, images: ArrayLike, array: Array = golden) -> NDArray[np.int64]:
        """Return the class of each image, shape (n, rows, columns)."""
        features = self._run(images, array)[0]
        return (features @ self.weights.T + self.bias).argmax(axis=-1)

    def _run(
        self, images: ArrayLike, array: Array
    ) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
        x = np.asarray(images, np.int64)[:, None]
        seen = []
        for stage in self.stages:
            vectors = stage.vectors(x)
            seen.append(vectors)
            flat = vectors.reshape(-1, vectors.shape[-1])
            spectrum = array(stage.spec, flat, stage.thresholds).reshape(vectors.shape)
            x = stage.back(spectrum)
        return x.reshape(len(x), -1), seen

    def work(self, images: ArrayLike) -> dict[str, Any]:
        """Return what early termination does: planes per row and per array, sparsity.

        `silenced` is the share of rows whose threshold is full scale, which take no plane at all;
        `live_planes_per_row` leaves them out. `array_planes` holds for an array of all channels.
        """
        rows, arrays, zeros, silenced, live = [], [], [], [], []
        for stage, vectors in zip(self.stages, self.vectors(images), strict=True):
            outcome = bitplane.transform(stage.spec, vectors, stage.thresholds)
            quiet = stage.thresholds >= stage.spec.full_scale
            rows.append(outcome.row_planes.ravel())
            arrays.append(outcome.array_planes.ravel())
            zeros.append((outcome.result == 0).ravel())
            silenced.append(np.broadcast_to(quiet, outcome.result.shape).ravel())
            live.append(outcome.row_planes[..., ~quiet].ravel())
        facts = {
            "planes_per_row": rows,
            "planes_per_array": arrays,
            "zero_results": zeros,
            "silenced": silenced,
            "live_planes_per_row": live,
        }
        summary: dict[str, Any] = {
            name: round(float(np.concatenate(parts).mean()), 4) for name, parts in facts.items()
        }
        summary["planes_per_row_of_stages"] = [round(float(part.mean()), 4) for part in rows]
        return summary


def save(network: FrequencyNetwork, file: Any) -> None:
    """Write a network as npz."""
    arrays: dict[str, Any] = {
        "measured": np.array(json.dumps(network.measured)),
        "weights": network.weights.astype(np.int8),
        "bias": network.bias.astype(np.int32),
    }
    for i, stage in enumerate(network.stages):
        arrays[f"weights{i}"] = stage.weights.astype(np.int8)
        arrays[f"bias{i}"] = stage.bias.astype(np.int32)
        arrays[f"thresholds{i}"] = stage.thresholds.astype(np.uint8)
        arrays[f"shift{i}"] = np.array(stage.shift)
        arrays[f"stride{i}"] = np.array(stage.stride)
    np.savez_compressed(file, **arrays)


def network() -> FrequencyNetwork:
    """Return the shipped digits network."""
    with resources.files("mulfree_models").joinpath("data", FILE).open("rb") as file:
        arrays = np.load(file)
        stages = tuple(
            Stage(
                weights=arrays[f"weights{i}"].astype(np.int64),
                bias=arrays[f"bias{i}"].astype(np.int64),
                shift=int(arrays[f"shift{i}"]),
                stride=int(arrays[f"stride{i}"]),
                thresholds=arrays[f"thresholds{i}"].astype(np.int64),
            )
            for i in range(sum(name.startswith("shift") for name in arrays.files))
        )
        return FrequencyNetwork(
            stages,
            arrays["weights"].astype(np.int64),
            arrays["bias"].astype(np.int64),
            json.loads(str(arrays["measured"])),
        )
