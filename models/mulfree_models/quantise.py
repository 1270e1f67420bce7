"""Post-training quantisation of fully connected networks, and their inference in integers.

Activations are asymmetric (``real = scale · (code - zero_point)``), weights symmetric with a scale
a channel, biases 32 bits, the factor between two layers TFLite's 31-bit multiplier and shift:
Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference" (2018), sections 2.1 to 2.4; TFLite's 8-bit quantization specification.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.engine.requantizer import RequantizerSpec
from mulfree.formats import Int
from mulfree_models.digits import FloatNetwork
from mulfree_sim.golden import requantizer as golden
from mulfree_sim.golden.requantizer import ChannelParameters

MULTIPLIER_BITS = 31


@dataclass(frozen=True)
class QuantisedWeights:
    """A layer's weights in a hardware format.

    Members
    -------
    codes : (outputs, inputs), int64
        What the array's weight stream carries.
    values : (outputs, inputs), int64
        The integers that the codes stand for; the same, for plain integers.
    scale : (outputs,), float64
        A real weight is ``values · scale`` of its row.
    """

    codes: NDArray[np.int64]
    values: NDArray[np.int64]
    scale: NDArray[np.float64]


#: Turns real weights of shape (outputs, inputs) into codes: what another weight format brings.
WeightQuantiser = Callable[[NDArray[np.float64]], QuantisedWeights]


@dataclass(frozen=True)
class SymmetricWeights:
    """Weight quantiser: two's complement, zero point 0, a scale a row, the lowest code left out."""

    bits: int = 8

    def __call__(self, weights: NDArray[np.float64]) -> QuantisedWeights:
        """Quantise rows of real weights."""
        high = Int(self.bits).high
        largest = np.abs(weights).max(axis=1)
        scale = np.where(largest > 0, largest, 1) / high
        codes = np.clip(np.rint(weights / scale[:, None]), -high, high).astype(np.int64)
        return QuantisedWeights(codes, codes, scale)


@dataclass(frozen=True)
class ActivationFormat:
    """How activations are coded: ``real = scale · (code - zero_point)``."""

    integer: Int
    scale: float
    zero_point: int

    @classmethod
    def covering(cls, low: float, high: float, integer: Int) -> "ActivationFormat":
        """Return the format that covers low…high and has an exact zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / (integer.high - integer.low) or 1.0
        zero_point = int(np.clip(round(integer.low - low / scale), integer.low, integer.high))
        return cls(integer, scale, zero_point)

    def encode(self, real: ArrayLike) -> NDArray[np.int64]:
        """Return the nearest codes."""
        steps = np.rint(np.asarray(real, np.float64) / self.scale) + self.zero_point
        return np.clip(steps, self.integer.low, self.integer.high).astype(np.int64)

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Return what the codes stand for."""
        return self.scale * (np.asarray(codes, np.float64) - self.zero_point)


@dataclass(frozen=True)
class FullyConnected:
    """A layer in integers.

    ``out = requantize(Σ_i values[o, i] · x[i])``; the bias in `parameters` holds the layer's bias
    and what the input's zero point adds to the sum.
    """

    weights: QuantisedWeights
    input: ActivationFormat
    output: ActivationFormat
    parameters: ChannelParameters
    low: int
    high: int

    def accumulate(self, x: ArrayLike) -> NDArray[np.int64]:
        """Return the dot products of activations, shape (..., inputs) to (..., outputs)."""
        return self.input.integer.check(x, "act") @ self.weights.values.T

    def forward(self, x: ArrayLike) -> NDArray[np.int64]:
        """Return the layer's outputs, shape (..., inputs) to (..., outputs)."""
        return golden.requantize(
            self.requantizer(),
            self.accumulate(x),
            self.parameters,
            self.output.zero_point,
            self.low,
            self.high,
        )

    def requantizer(self) -> RequantizerSpec:
        """Return a requantizer that holds this layer."""
        return RequantizerSpec(
            channels=len(self.parameters.bias),
            out_bits=self.output.integer.bits,
            out_signed=self.output.integer.signed,
            left_shift=max(0, int(self.parameters.shift.max())),
        )


@dataclass(frozen=True)
class Network:
    """Fully connected layers in integers."""

    layers: Sequence[FullyConnected]

    def activations(self, real: ArrayLike) -> list[NDArray[np.int64]]:
        """Return the coded input and every layer's output."""
        found = [self.layers[0].input.encode(real)]
        for layer in self.layers:
            found.append(layer.forward(found[-1]))
        return found

    def classify(self, real: ArrayLike) -> NDArray[np.int64]:
        """Return the class of each input."""
        return self.activations(real)[-1].argmax(axis=-1)


def quantise_multiplier(real: float, bits: int = MULTIPLIER_BITS) -> tuple[int, int]:
    """Return (multiplier, shift) with ``multiplier / 2^bits · 2^shift`` nearest to `real`.

    As TFLite's ``QuantizeMultiplier``: the multiplier is at least ``2^(bits-1)``, and 0 stands for
    what is below the smallest shift.

    Raises
    ------
    ValueError
        `real` is negative or not finite.
    """
    if not (real >= 0 and math.isfinite(real)):
        raise ValueError(f"real must be finite and at least 0, not {real}")
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * (1 << bits) + 0.5)  # ties up, as std::round above zero
    if multiplier == 1 << bits:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def quantise(
    network: FloatNetwork,
    samples: ArrayLike,
    weights: WeightQuantiser | None = None,
    activations: Int | None = None,
) -> Network:
    """Quantise a trained network.

    Parameters
    ----------
    samples
        Inputs whose activations set the ranges, shape (n, inputs): training data.
    weights
        The weight format; 8-bit symmetric by default.
    activations
        The integers that activations are coded in; 8 bits signed by default.
    """
    weights = weights or SymmetricWeights()
    integer = activations or Int(8)
    formats = [
        ActivationFormat.covering(float(a.min()), float(a.max()), integer)
        for a in network.activations(samples)
    ]
    layers = []
    for layer, source, target in zip(network.layers, formats[:-1], formats[1:], strict=True):
        coded = weights(layer.weights)
        sum_scale = source.scale * coded.scale
        bias = np.rint(layer.bias / sum_scale).astype(np.int64)
        bias -= source.zero_point * coded.values.sum(axis=1)
        pairs = [quantise_multiplier(s / target.scale) for s in sum_scale]
        multiplier, shift = np.array(pairs, np.int64).T
        layers.append(
            FullyConnected(
                weights=coded,
                input=source,
                output=target,
                parameters=ChannelParameters(Int(32).check(bias, "bias"), multiplier, shift),
                low=max(integer.low, target.zero_point) if layer.relu else integer.low,
                high=integer.high,
            )
        )
    return Network(tuple(layers))
