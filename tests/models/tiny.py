"""Networks of the shapes of MLPerf Tiny, with random weights."""

import numpy as np

from tests.models.layers import RELU, Net


def separable(net: Net, width: int, stride: int = 1) -> None:
    """Add a depthwise convolution and one of single pixels."""
    net.conv(net.shape[-1], stride=(stride, stride), depthwise=True, activation=RELU)
    net.conv(width, (1, 1), activation=RELU)


def classify(net: Net, window: tuple[int, int], classes: int) -> None:
    """Add the average of what is left of the image, and the classes' probabilities."""
    net.pool("AVERAGE", window, window)
    net.reshape((net.shape[-1],))
    net.dense(classes)
    net.softmax()


def keyword_spotting(rng: np.random.Generator) -> Net:
    """DS-CNN: 49 × 10 features, twelve words."""
    net = Net(rng, (490,))
    net.reshape((49, 10, 1))
    net.conv(64, (10, 4), (2, 2), activation=RELU)
    for _ in range(4):
        separable(net, 64)
    classify(net, (25, 5), 12)
    return net


def visual_wake_words(rng: np.random.Generator) -> Net:
    """MobileNetV1 of a quarter of the width: 96 × 96 pixels, two classes."""
    net = Net(rng, (96, 96, 3))
    net.conv(8, stride=(2, 2), activation=RELU)
    widths = [16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    for stride, width in zip(strides, widths, strict=True):
        separable(net, width, stride)
    classify(net, (3, 3), 2)
    return net


def anomaly_detection(rng: np.random.Generator) -> Net:
    """An autoencoder of ten dense layers: 640 features."""
    net = Net(rng, (640,))
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        net.dense(width, RELU)
    net.dense(640)
    return net


NETWORKS = {f.__name__: f for f in (keyword_spotting, visual_wake_words, anomaly_detection)}
