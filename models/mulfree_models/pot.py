"""Networks with power-of-two weights: quantisation, pruning, fine-tuning.

Pruning is Przewlocka-Rus and Kryjak's idea (ICCVG 2022) as reconstructed here: after quantisation
few weights are zero, so the lowest exponent codes of a layer are mapped to zero while the error of
the layer's output stays in a budget; fine-tuning with the zeros held brings accuracy back. Masks
from elsewhere, as those of the lottery ticket (Frankle and Carbin, ICLR 2019), serve as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.formats import PowerOfTwo
from mulfree_models import digits
from mulfree_models.digits import FloatLayer, FloatNetwork
from mulfree_models.quantise import QuantisedWeights

#: Smallest scale of a row over the largest of its layer.
SCALE_RATIO = 2.0**-6

#: Term widths of the shipped networks.
SHIPPED = (3, 4, 5)


@dataclass(frozen=True)
class PowerOfTwoWeights:
    """Weight quantiser: power-of-two codes, a scale a row, found by least squared error.

    Rows that are multiples of powers of two already are kept as they are, where their range fits.

    Members
    -------
    format
        The code.
    per_channel
        A scale for each row; else one for the layer.
    """

    format: PowerOfTwo = PowerOfTwo(4)
    per_channel: bool = True

    def scale(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scale of each row, or of all, as an array that broadcasts.

        The scale of a row of tiny weights is lifted by a power of two, so that its bias, which is
        coded in the same steps, stays small.
        """
        scale = self.format.calibrate(weights, 0 if self.per_channel else None)
        used = np.abs(weights).max(axis=1, keepdims=True, initial=0.0) > 0
        least = SCALE_RATIO * scale.max(where=used, initial=0.0) if used.any() else 0.0
        lift = np.ceil(np.log2(np.maximum(least / scale, 1.0)))
        return scale * 2.0**lift

    def __call__(self, weights: NDArray[np.float64]) -> QuantisedWeights:
        """Quantise rows of real weights; codes are what the codes stand for."""
        scale = self.scale(weights)
        values = self.format.quantise(weights, scale)
        return QuantisedWeights(values, values, np.broadcast_to(scale[:, 0], len(weights)).copy())


def rounded(network: FloatNetwork, quantiser: PowerOfTwoWeights) -> FloatNetwork:
    """Return the network with every weight moved to its nearest level."""
    return replace(network, layers=tuple(_rounded(x, quantiser) for x in network.layers))


def _rounded(layer: FloatLayer, quantiser: PowerOfTwoWeights) -> FloatLayer:
    coded = quantiser(layer.weights)
    return replace(layer, weights=coded.values * coded.scale[:, None])


@dataclass(frozen=True)
class PrunedLayer:
    """What pruning made of a layer.

    Members
    -------
    weights
        Still levels of the quantiser.
    mask : bool, as weights
        Where a weight is left.
    codes
        How many of the lowest exponent codes became zero; 0 where a mask was given.
    sparsity
        Share of zeros.
    error
        Energy of the change of the layer's output over the energy of the output, before the bias.
    """

    weights: QuantisedWeights
    mask: NDArray[np.bool_]
    codes: int
    sparsity: float
    error: float


def prune_layer(
    weights: QuantisedWeights,
    inputs: ArrayLike,
    budget: float,
    mask: ArrayLike | None = None,
) -> PrunedLayer:
    """Map the lowest exponent codes to zero, as many as the output error's budget allows.

    Parameters
    ----------
    inputs
        What the layer is given, shape (n, inputs): training data.
    budget
        Largest relative output error, 0…1.
    mask
        Zero the weights where it is false instead; the budget only reports.

    Raises
    ------
    ValueError
        The budget is not within 0…1, or the mask has another shape than the weights.
    """
    if not 0 <= budget <= 1:
        raise ValueError(f"budget must be between 0 and 1, not {budget}")
    x = np.asarray(inputs, np.float64)
    values = weights.values
    if mask is not None:
        kept = np.asarray(mask, bool)
        if kept.shape != values.shape:
            raise ValueError(f"mask must have shape {values.shape}, not {kept.shape}")
        return _pruned(weights, x, kept & (values != 0), 0)
    best = _pruned(weights, x, values != 0, 0)
    for codes, level in enumerate(np.unique(np.abs(values[values != 0])).tolist(), 1):
        found = _pruned(weights, x, np.abs(values) > level, codes)
        if found.error > budget:
            break
        best = found
    return best


def _pruned(
    weights: QuantisedWeights, x: NDArray[np.float64], mask: NDArray[np.bool_], codes: int
) -> PrunedLayer:
    values = np.where(mask, weights.values, 0)
    output = x @ (weights.values * weights.scale[:, None]).T
    change = x @ ((values - weights.values) * weights.scale[:, None]).T
    energy = float((output**2).sum())
    return PrunedLayer(
        weights=QuantisedWeights(values, values, weights.scale),
        mask=mask,
        codes=codes,
        sparsity=float((values == 0).mean()),
        error=float((change**2).sum()) / energy if energy else 0.0,
    )


def magnitude_mask(weights: ArrayLike, sparsity: float) -> NDArray[np.bool_]:
    """Return a mask that leaves out the smallest magnitudes, a share `sparsity` of all."""
    magnitude = np.abs(np.asarray(weights, np.float64))
    order = np.argsort(magnitude, axis=None, kind="stable")
    mask = np.ones(magnitude.size, bool)
    mask[order[: round(sparsity * magnitude.size)]] = False
    return mask.reshape(magnitude.shape)


@dataclass(frozen=True)
class PrunedNetwork:
    """A pruned network, its layers' reports, and its accuracy in percent when it was accepted."""

    network: FloatNetwork
    layers: Sequence[PrunedLayer]
    budget: float
    accuracy: float

    @property
    def sparsity(self) -> float:
        """Share of zero weights in the whole network."""
        masks = [layer.mask for layer in self.layers]
        return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)


#: Brings a pruned network's accuracy back while the masks hold.
Recovery = Callable[[FloatNetwork, list[NDArray[np.bool_]]], FloatNetwork]


def prune(
    network: FloatNetwork,
    quantiser: PowerOfTwoWeights,
    x: ArrayLike,
    labels: ArrayLike,
    *,
    points: float,
    recover: Recovery | None = None,
    budgets: Sequence[float] = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4),
) -> PrunedNetwork:
    """Prune as much as an accuracy budget allows.

    Parameters
    ----------
    x, labels
        What accuracy and output errors are measured on: not the test set.
    points
        How many percentage points of accuracy may be lost against the quantised network.
    recover
        Fine-tunes before the accuracy is taken.
    budgets
        Output-error budgets to try, smallest first; the largest that keeps the accuracy wins.
    """
    start = rounded(network, quantiser)
    goal = digits.accuracy(start.classify(x), labels) - points
    accepted = _prune_at(start, quantiser, x, labels, budgets[0], None)
    for budget in budgets[1:]:
        found = _prune_at(start, quantiser, x, labels, budget, recover)
        if found.accuracy >= goal:
            accepted = found
    return accepted


def _prune_at(
    start: FloatNetwork,
    quantiser: PowerOfTwoWeights,
    x: ArrayLike,
    labels: ArrayLike,
    budget: float,
    recover: Recovery | None,
) -> PrunedNetwork:
    given = start.activations(x)
    pruned = [
        prune_layer(quantiser(layer.weights), inputs, budget)
        for layer, inputs in zip(start.layers, given, strict=False)
    ]
    layers = tuple(
        replace(layer, weights=p.weights.values * p.weights.scale[:, None])
        for layer, p in zip(start.layers, pruned, strict=True)
    )
    network = replace(start, layers=layers)
    if recover:
        network = rounded(recover(network, [p.mask for p in pruned]), quantiser)
    return PrunedNetwork(network, pruned, budget, digits.accuracy(network.classify(x), labels))


def fine_tune(
    network: FloatNetwork,
    quantiser: PowerOfTwoWeights,
    x: ArrayLike,
    labels: ArrayLike,
    *,
    masks: Sequence[NDArray[np.bool_]] | None = None,
    epochs: int = 60,
    rate: float = 2e-3,
    penalty: float = 1e-4,
    batch: int = 64,
    seed: int = 0,
) -> FloatNetwork:
    """Train with rounded weights and straight-through gradients; return the rounded network.

    The forward pass uses levels, the gradient updates reals behind them (Adam, cosine rate); scales
    are found anew each epoch. Weights where a mask is false stay zero.

    Parameters
    ----------
    x, labels
        Training inputs, shape (n, inputs), and classes.
    """
    x, labels = np.asarray(x, np.float64), np.asarray(labels)
    rng = np.random.default_rng(seed)
    real = [layer.weights.copy() for layer in network.layers]
    bias = [layer.bias.copy() for layer in network.layers]
    held = [np.ones(w.shape, bool) for w in real] if masks is None else list(masks)
    adam = _Adam([*real, *bias])
    steps, done = epochs * -(-len(x) // batch), 0
    for _ in range(epochs):
        order = rng.permutation(len(x))
        scales = [quantiser.scale(w * mask) for w, mask in zip(real, held, strict=True)]
        for start in range(0, len(x), batch):
            pick = order[start : start + batch]
            levels = (
                quantiser.format.quantise(w * mask, scale) * scale
                for w, mask, scale in zip(real, held, scales, strict=True)
            )
            layers = tuple(
                replace(layer, weights=w, bias=b)
                for layer, w, b in zip(network.layers, levels, bias, strict=True)
            )
            current = replace(network, layers=layers)
            of_weights, of_biases = _gradients(current, x[pick], labels[pick])
            of_weights = [
                g * mask + penalty * w for g, mask, w in zip(of_weights, held, real, strict=True)
            ]
            cosine = 0.5 * (1 + np.cos(np.pi * done / steps))
            adam.step([*of_weights, *of_biases], rate * cosine)
            done += 1
    layers = tuple(
        replace(layer, weights=w * mask, bias=b)
        for layer, w, b, mask in zip(network.layers, real, bias, held, strict=True)
    )
    return rounded(replace(network, layers=layers), quantiser)


def _gradients(
    network: FloatNetwork, x: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Return the gradients of the mean cross-entropy, of weights and of biases."""
    given = network.activations(x)
    shifted = given[-1] - given[-1].max(axis=1, keepdims=True)
    slope = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    slope[np.arange(len(x)), labels] -= 1
    slope /= len(x)
    weights, biases = [], []
    for place in reversed(range(len(network.layers))):
        layer = network.layers[place]
        if layer.relu:
            slope = slope * (given[place + 1] > 0)
        weights.insert(0, slope.T @ given[place])
        biases.insert(0, slope.sum(axis=0))
        slope = slope @ layer.weights
    return weights, biases


class _Adam:
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1; in place."""

    def __init__(self, parameters: list[NDArray[np.float64]]) -> None:
        self._parameters = parameters
        self._first = [np.zeros_like(p) for p in parameters]
        self._second = [np.zeros_like(p) for p in parameters]
        self._steps = 0

    def step(self, slopes: Sequence[NDArray[np.float64]], rate: float) -> None:
        self._steps += 1
        for p, g, m, v in zip(self._parameters, slopes, self._first, self._second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            scale = np.sqrt(v / (1 - 0.999**self._steps)) + 1e-8
            p -= rate * m / (1 - 0.9**self._steps) / scale


def shipped(bits: int, pruned: bool = False) -> FloatNetwork:
    """Return a fine-tuned digits network with weights of one term of `bits` bits.

    Raises
    ------
    ValueError
        None of that width is shipped.
    """
    if bits not in SHIPPED:
        raise ValueError(f"bits must be one of {', '.join(map(str, SHIPPED))}, not {bits}")
    return digits.network(file_name(bits, pruned))


def file_name(bits: int, pruned: bool) -> str:
    """Return the name of a shipped network's file."""
    return f"digits_pot{bits}{'_pruned' if pruned else ''}.npz"
