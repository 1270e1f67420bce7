"""The digits network: scikit-learn's handwritten digits, one split, one small trained network.

1,797 images of 8 × 8 pixels with values 0…16 (the test part of UCI's "Optical Recognition of
Handwritten Digits"), of which 360 are held out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

TEST_IMAGES = 360
PIXEL_HIGH = 16

#: The shipped network, made by `mulfree_models.recipes.digits`.
FILE = "digits_mlp.npz"


@dataclass(frozen=True)
class Digits:
    """The split.

    Members
    -------
    train_images, test_images : (1437, 64) and (360, 64), int64
        Rows of pixels, 0…16.
    train_labels, test_labels : (1437,) and (360,), int64
    """

    train_images: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.int64]
    test_labels: NDArray[np.int64]


def load() -> Digits:
    """Return the one split that every figure of this project is measured on."""
    from sklearn.datasets import load_digits  # slow to import, and only needed here
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts: Any = train_test_split(
        images.astype(np.int64),
        labels.astype(np.int64),
        test_size=TEST_IMAGES,
        random_state=0,
        stratify=labels,
    )
    return Digits(
        train_images=parts[0], test_images=parts[1], train_labels=parts[2], test_labels=parts[3]
    )


def scaled(images: ArrayLike) -> NDArray[np.float64]:
    """Return pixels as the network takes them, 0…1."""
    return np.asarray(images, np.float64) / PIXEL_HIGH


@dataclass(frozen=True)
class FloatLayer:
    """A fully connected layer: ``act(weights @ x + bias)``, weights of shape (outputs, inputs)."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    relu: bool


@dataclass(frozen=True)
class FloatNetwork:
    """Fully connected layers, and what was measured when they were trained."""

    layers: Sequence[FloatLayer]
    measured: dict[str, Any]

    def activations(self, x: ArrayLike) -> list[NDArray[np.float64]]:
        """Return the input and every layer's output, shape (..., width of the layer)."""
        found = [np.asarray(x, np.float64)]
        for layer in self.layers:
            y = found[-1] @ layer.weights.T + layer.bias
            found.append(np.maximum(y, 0) if layer.relu else y)
        return found

    def classify(self, x: ArrayLike) -> NDArray[np.int64]:
        """Return the class of each input."""
        return self.activations(x)[-1].argmax(axis=-1)


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of right predictions in percent."""
    return 100 * float(np.mean(np.asarray(predicted) == np.asarray(labels)))


def save(network: FloatNetwork, file: Any) -> None:
    """Write a network as npz, weights in single precision."""
    arrays: dict[str, Any] = {"measured": np.array(json.dumps(network.measured))}
    for i, layer in enumerate(network.layers):
        arrays[f"weights{i}"] = layer.weights.astype(np.float32)
        arrays[f"bias{i}"] = layer.bias.astype(np.float32)
        arrays[f"relu{i}"] = np.array(layer.relu)
    np.savez_compressed(file, **arrays)


def network(name: str = FILE) -> FloatNetwork:
    """Return a shipped network by its file's name."""
    with resources.files("mulfree_models").joinpath("data", name).open("rb") as file:
        arrays = np.load(file)
        layers = tuple(
            FloatLayer(
                arrays[f"weights{i}"].astype(np.float64),
                arrays[f"bias{i}"].astype(np.float64),
                bool(arrays[f"relu{i}"]),
            )
            for i in range(sum(name.startswith("weights") for name in arrays.files))
        )
        return FloatNetwork(layers, json.loads(str(arrays["measured"])))
