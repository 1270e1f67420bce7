"""The layers of five networks at CIFAR-10 size: 32 × 32 pixels, 3 channels, 10 classes.

VGG is Simonyan and Zisserman (arXiv 1409.1556), ResNet He and others (1512.03385), GoogleNet
Szegedy and others (1409.4842), each as it is usually made for images this small: strides and pools
of the first layers left out, batch normalisation throughout, one dense layer at the end, and in
GoogleNet two 3 × 3 kernels for a 5 × 5 one.
"""

from collections.abc import Callable
from dataclasses import dataclass

SIDE, COLOURS, CLASSES = 32, 3, 10


@dataclass(frozen=True)
class Layer:
    """A convolution, or a dense layer, which is one of a single pixel.

    Parameters
    ----------
    inputs, outputs
        Channels.
    kernel, side
        Sides of the square kernel and of the map that it makes.
    bias, normalised
        Whether it has biases, and a batch normalisation with a scale and a shift a channel.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    side: int
    bias: bool
    normalised: bool = True

    @property
    def weights(self) -> int:
        """Weights of the kernels."""
        return self.kernel**2 * self.inputs * self.outputs

    @property
    def macs(self) -> int:
        """Products in an inference."""
        return self.weights * self.side**2

    @property
    def parameters(self) -> int:
        """Everything that is trained."""
        return self.weights + self.outputs * (self.bias + 2 * self.normalised)


def _dense(inputs: int) -> Layer:
    return Layer("dense", inputs, CLASSES, 1, 1, bias=True, normalised=False)


def vgg(groups: tuple[tuple[int, int], ...]) -> list[Layer]:
    """Return a VGG network of (channels, convolutions) with a pool behind each group."""
    layers, channels, side = [], COLOURS, SIDE
    for number, (outputs, count) in enumerate(groups, 1):
        for place in range(1, count + 1):
            layers.append(Layer(f"conv{number}.{place}", channels, outputs, 3, side, bias=True))
            channels = outputs
        side //= 2
    return [*layers, _dense(channels)]


def resnet(blocks: tuple[int, ...]) -> list[Layer]:
    """Return a ResNet of basic blocks, so many in each group of 64, 128, 256, 512 channels."""
    layers = [Layer("stem", COLOURS, 64, 3, SIDE, bias=False)]
    channels, side = 64, SIDE
    for group, count in enumerate(blocks):
        outputs = 64 << group
        for block in range(count):
            name = f"group{group + 1}.{block + 1}"
            side //= 2 if block == 0 and group else 1
            layers.append(Layer(f"{name}.a", channels, outputs, 3, side, bias=False))
            layers.append(Layer(f"{name}.b", outputs, outputs, 3, side, bias=False))
            if channels != outputs:
                layers.append(Layer(f"{name}.shortcut", channels, outputs, 1, side, bias=False))
            channels = outputs
    return [*layers, _dense(channels)]


#: Groups of inception modules, a pool between: channels of the 1 × 1 branch, of the 3 × 3 branch's
#: reduction and itself, of the 5 × 5 branch's, and behind the pool.
INCEPTIONS = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)  # fmt: skip


def googlenet() -> list[Layer]:
    """Return GoogleNet."""
    layers = [Layer("stem", COLOURS, 192, 3, SIDE, bias=True)]
    channels, side = 192, SIDE
    for group, modules in enumerate(INCEPTIONS, 3):
        for letter, (one, to_three, three, to_five, five, pooled) in zip(
            "abcde", modules, strict=False
        ):
            branches = (
                ("1x1", channels, one, 1), ("3x3.reduce", channels, to_three, 1),
                ("3x3", to_three, three, 3), ("5x5.reduce", channels, to_five, 1),
                ("5x5.a", to_five, five, 3), ("5x5.b", five, five, 3),
                ("pool", channels, pooled, 1),
            )  # fmt: skip
            layers += [
                Layer(f"inception{group}{letter}.{name}", inputs, outputs, kernel, side, bias=True)
                for name, inputs, outputs, kernel in branches
            ]
            channels = one + three + five + pooled
        side //= 2
    return [*layers, _dense(channels)]


#: The networks by name.
NETWORKS: dict[str, Callable[[], list[Layer]]] = {
    "VGG11": lambda: vgg(((64, 1), (128, 1), (256, 2), (512, 2), (512, 2))),
    "VGG19": lambda: vgg(((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))),
    "ResNet18": lambda: resnet((2, 2, 2, 2)),
    "ResNet34": lambda: resnet((3, 4, 6, 3)),
    "GoogleNet": googlenet,
}
