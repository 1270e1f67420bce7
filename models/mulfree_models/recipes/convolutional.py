"""Trains the convolutional digits network: ``python -m mulfree_models.recipes.convolutional``.

Needs the extra `train` (PyTorch). Images are shifted by up to a pixel while it trains; batch
normalisation is folded before quantisation.
"""

import io
import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from mulfree.files import write_bytes
from mulfree_models import convolutional, digits, reference
from mulfree_models.convolutional import GROUPS, INTEGER, SIDE
from mulfree_models.quantise import ActivationFormat, SymmetricWeights, quantise_multiplier


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on, besides the data."""

    epochs: int = 80
    batch: int = 64
    rate: float = 3e-3
    decay: float = 1e-3
    smoothing: float = 0.05  # of the labels
    seed: int = 0


class Network(nn.Module):
    """Convolutions with batch normalisation, pools, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [1, *(c for group in GROUPS for c in group)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in itertools.pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in sizes[1:])
        self.dense = nn.Linear(sizes[-1], 10)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the input and the output of every layer."""
        found = [x]
        for place, (convolve, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = functional.relu(norm(convolve(x)))
            found.append(x)
            if place % 2:
                x = functional.max_pool2d(x, 2)
        return [*found, self.dense(x.flatten(1))]

    def folded(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return weights, outputs first and inputs last, and bias of every layer."""
        layers = []
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            weights = convolve.weight * gain[:, None, None, None]
            layers.append((weights.permute(0, 2, 3, 1), norm.bias - norm.running_mean * gain))
        layers.append((self.dense.weight, self.dense.bias))
        return [(w.detach().double().numpy(), b.detach().double().numpy()) for w, b in layers]


def _images(rows: NDArray[np.int64]) -> torch.Tensor:
    return torch.tensor(digits.scaled(rows), dtype=torch.float32).reshape(-1, 1, SIDE, SIDE)


def train(recipe: Recipe, data: digits.Digits, say: Callable[[str], object] = print) -> Network:
    """Train on the training images."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(1)  # the order of sums must not depend on the machine's cores
    network = Network()
    images, labels = _images(data.train_images), torch.tensor(data.train_labels)
    steps = recipe.epochs * -(-len(images) // recipe.batch)
    optimiser = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    for epoch in range(recipe.epochs):
        network.train()
        total = 0.0
        for part in torch.randperm(len(images)).split(recipe.batch):
            across, down = torch.randint(0, 3, (2,)).tolist()
            padded = functional.pad(images[part], (1, 1, 1, 1))
            shifted = padded[:, :, down : down + SIDE, across : across + SIDE]
            loss = functional.cross_entropy(
                network(shifted)[-1], labels[part], label_smoothing=recipe.smoothing
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            plan.step()
            total += loss.item() * len(part)
        say(f"epoch {epoch + 1}: loss {total / len(images):.4f}")
    return network.eval()


def quantised(network: Network, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the layers' arrays; the activations of `rows` set the ranges."""
    with torch.no_grad():
        found = network(_images(rows))
    formats = [ActivationFormat.covering(0, 1, INTEGER)]
    formats += [ActivationFormat.covering(float(a.min()), float(a.max()), INTEGER)
                for a in found[1:]]  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {
        "scale": np.array([f.scale for f in formats]),
        "zero_point": np.array([f.zero_point for f in formats]),
    }
    for i, (weights, bias) in enumerate(network.folded()):
        coded = SymmetricWeights()(weights.reshape(len(weights), -1))
        factor = formats[i].scale * coded.scale
        pairs = [quantise_multiplier(f / formats[i + 1].scale) for f in factor]
        arrays[f"weights{i}"] = coded.values.reshape(weights.shape).astype(np.int8)
        arrays[f"bias{i}"] = np.rint(bias / factor).astype(np.int32)
        arrays[f"multiplier{i}"], arrays[f"shift{i}"] = np.array(pairs, np.int64).T
    return arrays


def accuracy(arrays: dict[str, NDArray[Any]], images: NDArray, labels: NDArray) -> float:
    """Return the accuracy of the integers in percent."""
    found = reference.run(convolutional.build(arrays), convolutional.coded(images))
    return round(digits.accuracy(found.argmax(axis=1), labels), 4)


def main() -> None:
    """Train and write the file that the package ships."""
    recipe, data = Recipe(), digits.load()
    arrays = quantised(train(recipe, data), data.train_images)
    measured = {
        "train_accuracy": accuracy(arrays, data.train_images, data.train_labels),
        "test_accuracy": accuracy(arrays, data.test_images, data.test_labels),
        "recipe": asdict(recipe),
    }
    arrays["measured"] = np.array(json.dumps(measured))
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    path = Path(__file__).parents[1] / "data" / convolutional.FILE
    write_bytes(path, content.getvalue())
    print(f"{path}: {len(content.getvalue())} bytes, {measured}")


if __name__ == "__main__":
    main()
