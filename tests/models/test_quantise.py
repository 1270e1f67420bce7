import numpy as np
import pytest

from mulfree.formats import Int
from mulfree_models import digits
from mulfree_models.quantise import (
    ActivationFormat,
    SymmetricWeights,
    quantise,
    quantise_multiplier,
)


@pytest.fixture(scope="module")
def data():
    return digits.load()


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (0.5, (1 << 30, 0)),
        (1.0, (1 << 30, 1)),
        (0.25, (1 << 30, -1)),
        (0.75, (3 << 29, 0)),
        (1 - 2**-40, (1 << 30, 1)),
        (2.0**-40, (0, 0)),
    ],
)
def test_quantise_multiplier(real, expected):
    assert quantise_multiplier(real) == expected


@pytest.mark.parametrize("real", [-1.0, float("nan"), float("inf")])
def test_quantise_multiplier_refuses(real):
    with pytest.raises(ValueError, match=f"real must be finite and at least 0, not {real}"):
        quantise_multiplier(real)


def test_zero_is_exact():
    for low, high in ((0.0, 1.0), (-1.0, 3.0), (-5.0, -1.0), (0.0, 0.0), (2.0, 3.0)):
        form = ActivationFormat.covering(low, high, Int(8))
        assert form.decode(form.encode(0.0)) == 0
        assert abs(form.decode(form.encode(high)) - high) <= form.scale / 2 + 1e-9


def test_weights_are_within_half_a_step():
    weights = np.random.default_rng(3).normal(size=(5, 9))
    weights[2] = 0
    for bits in (2, 4, 8):
        coded = SymmetricWeights(bits)(weights)
        assert np.abs(coded.codes).max() == Int(bits).high
        error = np.abs(coded.values * coded.scale[:, None] - weights)
        assert (error <= coded.scale[:, None] / 2 + 1e-12).all()


def test_int8_is_within_a_point_of_float(data):
    network = digits.network()
    images = digits.scaled(data.test_images)
    integer = quantise(network, digits.scaled(data.train_images))
    in_float = digits.accuracy(network.classify(images), data.test_labels)
    in_int8 = digits.accuracy(integer.classify(images), data.test_labels)
    assert abs(in_float - in_int8) <= 1


def test_layers_are_near_the_real_ones(data):
    network = digits.network()
    images = digits.scaled(data.test_images)
    integer = quantise(network, digits.scaled(data.train_images))
    real = network.activations(images)
    coded = integer.activations(images)
    for layer, codes, exact in zip(integer.layers, coded[1:], real[1:], strict=True):
        low, high = layer.output.decode([layer.low, layer.high])
        error = np.abs(layer.output.decode(codes) - np.clip(exact, low, high))
        assert error.max() <= 6 * layer.output.scale


@pytest.mark.parametrize(
    ("weights", "activations", "points"),
    [(SymmetricWeights(4), Int(8), 3), (SymmetricWeights(8), Int(8, False), 1)],
    ids=str,
)
def test_other_formats(data, weights, activations, points):
    network = digits.network()
    images = digits.scaled(data.test_images)
    integer = quantise(network, digits.scaled(data.train_images), weights, activations)
    measured = digits.accuracy(integer.classify(images), data.test_labels)
    assert measured >= network.measured["test_accuracy"] - points
