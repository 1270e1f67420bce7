"""The shipped convolutional digits network, and the recipe that makes it."""

import numpy as np
import pytest

from mulfree_models import convolutional, digits, reference


@pytest.fixture(scope="module")
def data() -> digits.Digits:
    return digits.load()


def test_shipped_network_has_its_stated_accuracy(data: digits.Digits) -> None:
    found = reference.run(convolutional.graph(), convolutional.coded(data.test_images))
    measured = convolutional.measured()
    assert digits.accuracy(found.argmax(axis=1), data.test_labels) == pytest.approx(
        measured["test_accuracy"], abs=1e-3
    )
    assert measured["test_accuracy"] >= 99


def test_pixels_use_all_codes() -> None:
    codes = convolutional.coded(np.array([[0, 16, 8, 1] * 16]))
    assert codes.shape == (1, 8, 8, 1)
    assert codes.ravel()[:4].tolist() == [-128, 127, 0, -112]


@pytest.mark.slow
def test_recipe_makes_the_shipped_network(data: digits.Digits) -> None:
    """The last bits of the training depend on the linear algebra library; the classes do not."""
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from mulfree_models.recipes import convolutional as recipe

    settings = recipe.Recipe()
    assert vars(settings) == convolutional.measured()["recipe"]
    arrays = recipe.quantised(recipe.train(settings, data, say=lambda _: None), data.train_images)
    assert recipe.accuracy(arrays, data.test_images, data.test_labels) >= 98.5
