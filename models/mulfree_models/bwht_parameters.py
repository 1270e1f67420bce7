"""Parameters of whole networks when frequency layers replace their 1×1 convolutions.

Counts are made from layer shapes alone. MobileNetV2 is Sandler and others, CVPR 2018, table 2; the
replacement is Pan, Badawi and Cetin, arXiv 2104.07085: a layer keeps a threshold for each of its
channels and nothing else, the batch normalisation behind it stays.
"""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A convolution or a dense layer with what follows it.

    Parameters
    ----------
    name
        ``part.layer``, where the part is what is replaced as a whole.
    inputs, outputs
        Channels.
    kernel
        Side of the square kernel.
    depthwise
        Each channel has a kernel of its own and no other.
    bias
        There is a bias.
    normalised
        Batch normalisation follows, with scale, shift, mean and variance for each channel.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int = 1
    depthwise: bool = False
    bias: bool = False
    normalised: bool = True

    @property
    def part(self) -> str:
        """The part of the network that the layer belongs to."""
        return self.name.split(".")[0]

    @property
    def replaceable(self) -> bool:
        """Whether it is a 1×1 convolution between channels."""
        return self.kernel == 1 and not self.depthwise and self.normalised

    @property
    def parameters(self) -> int:
        """Weights, biases and normalisation."""
        weights = self.kernel**2 * self.outputs * (1 if self.depthwise else self.inputs)
        return weights + self.outputs * self.bias + self._normalisation

    @property
    def replaced(self) -> int:
        """Parameters of a frequency layer in its place: a threshold a channel, normalisation."""
        return max(self.inputs, self.outputs) + self._normalisation

    @property
    def _normalisation(self) -> int:
        return 4 * self.outputs * self.normalised


#: Expansion, output channels and repetitions of MobileNetV2's groups of bottlenecks.
MOBILENET_V2 = (
    (1, 16, 1),
    (6, 24, 2),
    (6, 32, 3),
    (6, 64, 4),
    (6, 96, 3),
    (6, 160, 3),
    (6, 320, 1),
)


def mobilenet_v2(classes: int = 10) -> list[Layer]:
    """Return the layers: stem, bottlenecks b1…b17, head, classifier."""
    layers = [Layer("stem.conv", 3, 32, kernel=3)]
    channels, block = 32, 0
    for expansion, outputs, repetitions in MOBILENET_V2:
        for _ in range(repetitions):
            block += 1
            wide = channels * expansion
            if expansion > 1:
                layers.append(Layer(f"b{block}.expand", channels, wide))
            layers.append(Layer(f"b{block}.depthwise", wide, wide, kernel=3, depthwise=True))
            layers.append(Layer(f"b{block}.project", wide, outputs))
            channels = outputs
    layers.append(Layer("head.conv", channels, 1280))
    layers.append(Layer("classifier.dense", 1280, classes, bias=True, normalised=False))
    return layers


def parts(layers: list[Layer]) -> list[str]:
    """Return the parts that have 1×1 convolutions, in order from the input."""
    return list(dict.fromkeys(layer.part for layer in layers if layer.replaceable))


def count(layers: list[Layer], replaced: Collection[str] = ()) -> int:
    """Return the parameters when the 1×1 convolutions of some parts are replaced.

    Raises
    ------
    ValueError
        A part has none.
    """
    known = parts(layers)
    for name in replaced:
        if name not in known:
            raise ValueError(f"part must be one of {', '.join(known)}, not {name!r}")
    return sum(
        layer.replaced if layer.replaceable and layer.part in replaced else layer.parameters
        for layer in layers
    )


def curve(layers: list[Layer]) -> list[tuple[int, int]]:
    """Return (parts replaced, parameters) as parts are replaced one by one from the output back."""
    order = parts(layers)[::-1]
    return [(done, count(layers, order[:done])) for done in range(len(order) + 1)]
