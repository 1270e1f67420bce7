import io

import numpy as np
import pytest

from mulfree_models import digits
from mulfree_models.recipes import digits as recipe


@pytest.fixture(scope="module")
def data():
    return digits.load()


def test_split_is_the_stated_one(data):
    assert data.train_images.shape == (1437, 64)
    assert data.test_images.shape == (360, 64)
    assert data.test_images.min() == 0
    assert data.test_images.max() == digits.PIXEL_HIGH
    assert data.test_labels[:10].tolist() == [7, 6, 3, 7, 7, 3, 2, 8, 9, 3]
    # Stratified: every digit has its share.
    assert np.bincount(data.test_labels).min() >= 34


def test_shipped_network_has_its_stated_accuracy(data):
    network = digits.network()
    for part in ("train", "test"):
        images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        measured = digits.accuracy(network.classify(digits.scaled(images)), labels)
        assert measured == pytest.approx(network.measured[f"{part}_accuracy"], abs=1e-3)
    assert network.measured["test_accuracy"] >= 96


def test_file_survives_saving():
    network = digits.network()
    content = io.BytesIO()
    digits.save(network, content)
    assert len(content.getvalue()) <= 100_000
    arrays = np.load(io.BytesIO(content.getvalue()))
    for i, layer in enumerate(network.layers):
        assert (arrays[f"weights{i}"] == layer.weights).all()
        assert (arrays[f"bias{i}"] == layer.bias).all()


@pytest.mark.slow
def test_recipe_makes_the_shipped_network(data):
    """The last bits of the training depend on the linear algebra library; the classes do not."""
    shipped, trained = digits.network(), recipe.train()
    assert trained.measured["recipe"] == shipped.measured["recipe"]
    assert trained.measured["test_accuracy"] >= 96
    images = digits.scaled(data.test_images)
    assert (trained.classify(images) == shipped.classify(images)).mean() > 0.98
