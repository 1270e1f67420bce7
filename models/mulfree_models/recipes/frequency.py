"""Trains the frequency network against 1-bit products.

``python -m mulfree_models.recipes.frequency [digits|mnist]``

Needs the extra `train` (PyTorch). The forward pass is the array's: rounded inputs, signed bit
planes, ternary row outputs, soft threshold. The backward pass replaces the sign by ``tanh(τ·s)``
and lets a plane's digit follow its input straight through. Two regularisers: one pushes every
threshold upward, one makes the array's inputs small, so that planes have few digits and rows stop
early.

Thresholds may reach full scale, which silences their rows: those coefficients are pruned and take
no plane. What is measured says how many there are, and the planes of the others beside the mean.
"""

import argparse
import gzip
import io
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from mulfree.files import write_bytes
from mulfree.formats.planes import hadamard
from mulfree.units.bitplane import BitPlaneSpec
from mulfree_models import digits
from mulfree_models.frequency import BLOCK, FILE, FrequencyNetwork, Stage, save

PLANES = BitPlaneSpec().planes
FULL_SCALE = (1 << PLANES) - 1
WEIGHT_HIGH = 127


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on, besides the data."""

    channels: tuple[int, int] = (16, 32)
    strides: tuple[int, int] = (1, 2)
    pixel_high: int = digits.PIXEL_HIGH
    epochs: int = 60
    batch: int = 64
    rate: float = 3e-3
    decay: float = 1e-4
    dropout: float = 0.2
    smoothing: float = 0.1  # of the labels
    slope: float = 0.3  # τ of the sign's surrogate
    threshold: float = 0.3  # of full scale, at the start
    push: float = 1.0  # weight of the regulariser that pushes thresholds upward
    quiet: float = 0.3  # weight of the regulariser that makes the array's inputs small
    silence: bool = True  # thresholds may reach full scale, which silences a row
    ramp: float = 0.5  # share of the epochs over which both grow
    dense: bool = False  # 1 × 1 convolutions in place of the frequency layers, to compare with
    seed: int = 0


@dataclass(frozen=True)
class Data:
    """Images (n, rows, columns) of integers and labels, in two parts."""

    train_images: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.int64]
    test_labels: NDArray[np.int64]


def digits_data() -> Data:
    """Return scikit-learn's digits in the project's one split."""
    split = digits.load()
    return Data(
        split.train_images.reshape(-1, 8, 8),
        split.train_labels,
        split.test_images.reshape(-1, 8, 8),
        split.test_labels,
    )


def mnist_data(folder: Path, test_images: int = 2000, seed: int = 0) -> Data:
    """Return the 10,000 images of MNIST's ``t10k`` files, split with a fixed seed.

    Raises
    ------
    FileNotFoundError
        The files are not in the folder.
    """
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer((folder / "t10k-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order].astype(np.int64), labels[order].astype(np.int64)
    part = len(images) - test_images
    return Data(images[:part], labels[:part], images[part:], labels[part:])


def straight_through(exact: torch.Tensor, smooth: torch.Tensor) -> torch.Tensor:
    """Return `exact`, with the gradient of `smooth`."""
    return smooth + (exact - smooth).detach()


class Frequency(nn.Module):
    """The array's transform and soft threshold, the transform back, ReLU; full scale is 1."""

    def __init__(self, channels: int, recipe: Recipe) -> None:
        super().__init__()
        self._slope = recipe.slope
        self._highest = FULL_SCALE if recipe.silence else FULL_SCALE - 1
        self.thresholds = nn.Parameter(torch.full((channels,), recipe.threshold))
        self.size = torch.zeros(())  # of the inputs seen last, for the regulariser
        self.register_buffer("H", torch.tensor(hadamard(BLOCK), dtype=torch.float32))

    def steps(self) -> torch.Tensor:
        """Return the thresholds as integers."""
        return (self.thresholds * FULL_SCALE).round().clamp(0, self._highest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform the channels of (n, channels, rows, columns)."""
        self.size = x.abs().mean()
        n, channels, rows, columns = x.shape
        x = x.permute(0, 2, 3, 1).reshape(n, rows, columns, -1, BLOCK)
        value = (x.detach() * FULL_SCALE).round()
        sign, magnitude = value.sign(), value.abs().long()
        total = torch.zeros_like(x)
        for b in range(PLANES - 1, -1, -1):
            digit = straight_through(sign * ((magnitude >> b) & 1), x)
            row = digit @ self.H
            output = straight_through(row.sign(), torch.tanh(self._slope * row))
            total = total + output * ((1 << b) / FULL_SCALE)
        threshold = straight_through(self.steps() / FULL_SCALE, self.thresholds)
        total = total.reshape(n, rows, columns, channels)
        spectrum = total.sign() * functional.relu(total.abs() - threshold)
        y = spectrum.reshape(x.shape) @ self.H
        return functional.relu(y.reshape(n, rows, columns, channels).permute(0, 3, 1, 2))


def weight_shift(weights: torch.Tensor) -> int:
    """Return the largest shift at which the weights fit 8 bits, at least 0."""
    high = float(weights.detach().abs().max())
    return max(int(np.floor(np.log2(WEIGHT_HIGH / high))), 0)


def rounded(weights: torch.Tensor) -> torch.Tensor:
    """Return weights as 8 bits and a shift hold them, with a straight-through gradient."""
    step = 2.0 ** -weight_shift(weights)
    exact = (weights / step).round().clamp(-WEIGHT_HIGH, WEIGHT_HIGH) * step
    return straight_through(exact, weights)


class Network(nn.Module):
    """The network of `mulfree_models.frequency`, or the dense one that it is compared with."""

    def __init__(self, recipe: Recipe, side: int) -> None:
        super().__init__()
        self._recipe = recipe
        self._gain = FULL_SCALE / recipe.pixel_high  # of a pixel, in steps of the array's inputs
        self.convolutions = nn.ModuleList()
        self.layers = nn.ModuleList()
        inputs = 1
        for channels, stride in zip(recipe.channels, recipe.strides, strict=True):
            self.convolutions.append(nn.Conv2d(inputs, channels, 3, stride, padding=1))
            if recipe.dense:
                self.layers.append(nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU()))
            else:
                self.layers.append(Frequency(channels, recipe))
            side = (side - 1) // stride + 1
            inputs = channels
        self.head = nn.Linear(inputs * side * side, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of images (n, rows, columns) of pixels 0…pixel_high."""
        x = x[:, None]
        for i, (conv, layer) in enumerate(zip(self.convolutions, self.layers, strict=True)):
            assert isinstance(conv, nn.Conv2d)
            # The first one takes pixels as they are; its 8-bit weights include the scale.
            scale = self._gain / FULL_SCALE if i == 0 else 1.0
            weights = conv.weight * scale
            if not self._recipe.dense:
                # Rounded as `integers` rounds them: in steps of the array's inputs.
                steps = scale * FULL_SCALE if i == 0 else 1.0
                weights = rounded(conv.weight * steps) * (scale / steps)
            x = functional.conv2d(x, weights, conv.bias, conv.stride, conv.padding)
            x = layer(x if self._recipe.dense else x.clamp(-1, 1))
        x = functional.dropout(x.flatten(1), self._recipe.dropout, self.training)
        weights = self.head.weight if self._recipe.dense else rounded(self.head.weight)
        return functional.linear(x, weights, self.head.bias)

    def frequency_layers(self) -> list[Frequency]:
        """Return the frequency layers."""
        return [layer for layer in self.layers if isinstance(layer, Frequency)]

    def integers(self) -> FrequencyNetwork:
        """Return the network in integers."""
        stages = []
        for i, (conv, layer) in enumerate(
            zip(self.convolutions, self.frequency_layers(), strict=True)
        ):
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            weights = conv.weight.detach() * (self._gain if i == 0 else 1.0)
            shift = weight_shift(weights)
            stages.append(
                Stage(
                    weights=_integers(weights, shift, WEIGHT_HIGH),
                    bias=_integers(conv.bias.detach() * FULL_SCALE, shift),
                    shift=shift,
                    stride=self._recipe.strides[i],
                    thresholds=_integers(layer.steps().detach(), 0),
                )
            )
        shift = weight_shift(self.head.weight)
        return FrequencyNetwork(
            stages,
            _integers(self.head.weight.detach(), shift, WEIGHT_HIGH),
            _integers(self.head.bias.detach() * FULL_SCALE, shift),
            {},
        )


def _integers(values: torch.Tensor, shift: int, high: int = (1 << 31) - 1) -> NDArray[np.int64]:
    return np.clip(np.rint(values.double().numpy() * 2.0**shift), -high, high).astype(np.int64)


def train(recipe: Recipe, data: Data, say: Callable[[str], object] = print) -> Network:
    """Train a network on the training images."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(1)  # the order of sums must not depend on the machine's cores
    images = torch.tensor(data.train_images, dtype=torch.float32)
    labels = torch.tensor(data.train_labels)
    network = Network(recipe, images.shape[-1])
    layers = network.frequency_layers()
    thresholds = [layer.thresholds for layer in layers]
    kept = {id(parameter) for parameter in thresholds}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in kept]
    groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": recipe.decay}]
    if thresholds:
        groups.append({"params": thresholds, "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate)
    batches = -(-len(images) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=recipe.epochs * batches
    )
    for epoch in range(recipe.epochs):
        network.train()
        strength = min(1.0, epoch / (recipe.ramp * recipe.epochs))
        loss = torch.zeros(())
        for chosen in torch.randperm(len(images)).split(recipe.batch):
            loss = functional.cross_entropy(
                network(images[chosen]), labels[chosen], label_smoothing=recipe.smoothing
            )
            for layer in layers:
                push = recipe.push * (1 - layer.thresholds).mean()
                loss = loss + strength * (push + recipe.quiet * layer.size)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for threshold in thresholds:
                    threshold.clamp_(0, 1)
        if epoch % 10 == 9:
            say(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    return network.eval()


def dense_accuracy(network: Network, data: Data) -> float:
    """Return the test accuracy of a network in floating point, in percent."""
    with torch.no_grad():
        logits = network(torch.tensor(data.test_images, dtype=torch.float32))
    return digits.accuracy(logits.argmax(-1).numpy(), data.test_labels)


def measure(network: FrequencyNetwork, data: Data) -> dict[str, Any]:
    """Return accuracy in percent and the array's work on the test images."""
    return {
        "train_accuracy": digits.accuracy(network.classify(data.train_images), data.train_labels),
        "test_accuracy": digits.accuracy(network.classify(data.test_images), data.test_labels),
        **network.work(data.test_images),
    }


def outcome(recipe: Recipe, data: Data) -> tuple[FrequencyNetwork | None, dict[str, Any]]:
    """Train a network; return it in integers, unless it is the dense one, and its figures."""
    trained = train(recipe, data)
    if recipe.dense:
        return None, {"test_accuracy": dense_accuracy(trained, data)}
    network = trained.integers()
    return network, measure(network, data)


def main() -> None:
    """Train on one data set; for digits, write the file that the package ships."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", nargs="?", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--push", type=float, help="weight of the thresholds' regulariser")
    parser.add_argument("--quiet", type=float, help="weight of the inputs' regulariser")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--silence",
        action=argparse.BooleanOptionalAction,
        help="let thresholds reach full scale, which silences a row",
    )
    parser.add_argument("--dry", action="store_true", help="print the figures, write nothing")
    options = vars(parser.parse_args())
    name, dry = options.pop("data"), options.pop("dry")
    choices: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    if name == "mnist":
        root = os.environ.get("MULFREE_DATA", Path(__file__).parents[4] / "shared" / "data")
        data = mnist_data(Path(root) / "mnist_t10k")
        choices = {"strides": (2, 2), "pixel_high": 255, "epochs": 12, **choices}
    else:
        data = digits_data()
    recipe = Recipe(**choices)
    recipes = (
        recipe,
        replace(recipe, push=0.0, quiet=0.0),
        replace(recipe, dense=True),
    )
    with ProcessPoolExecutor(len(recipes), multiprocessing.get_context("spawn")) as pool:
        trained, unpushed, dense = pool.map(outcome, recipes, [data] * len(recipes))
    network = trained[0]
    measured = {
        "data": name,
        **trained[1],
        "dense_test_accuracy": dense[1]["test_accuracy"],
        "unpushed": unpushed[1],
        "recipe": asdict(recipe),
        "torch": torch.__version__,
    }
    for key, value in measured.items():
        print(f"{key}: {value}")
    if name == "digits" and not dry and network is not None:
        content = io.BytesIO()
        save(replace(network, measured=measured), content)
        path = Path(__file__).parents[1] / "data" / FILE
        write_bytes(path, content.getvalue())
        print(f"{path.name}: {len(content.getvalue())} bytes")


if __name__ == "__main__":
    main()
