"""Random small TFLite models, a function for each kind of layer; seeded by the caller."""

import numpy as np
import tflite

from tests.models.tflite_writer import Model

SAME, VALID = 0, 1
NONE, RELU, RELU6 = 0, 1, 3


def inputs(rng, tensor, images):
    """Codes of a tensor's range, shape (images, …); images differ in how bright they are."""
    low, high = tensor.integer.low, tensor.integer.high + 1
    codes = rng.integers(low, high, (images, *tensor.shape))
    ends = np.sort(rng.integers(low, high, (2, images, *(1 for _ in tensor.shape))), axis=0)
    return np.where(np.arange(images).reshape(ends[0].shape) % 2, np.clip(codes, *ends), codes)


def scale(rng, low=0.01, high=0.2):
    return float(np.float32(rng.uniform(low, high)))


def zero(rng, dtype="int8"):
    return int(rng.integers(-128, 128)) if dtype == "int8" else 0


def out_size(size, k, stride, dilation, padding):
    span = (k - 1) * dilation + 1
    return -(-size // stride) if padding == SAME else -(-(size - span + 1) // stride)


class Net:
    """A model with one running tensor."""

    def __init__(self, rng, shape, dtype="int8"):
        self.rng, self.dtype, self.model = rng, dtype, Model()
        self.shape: tuple[int, ...] = (1, *shape)
        self.input = self.at = self._new(self.shape)

    def _new(self, shape, like=None, **given):
        if like is not None:
            t = self.model.tensors[like]
            given = {"scale": t["scale"], "zero_point": t["zero_point"]}
        given = {"scale": scale(self.rng), "zero_point": zero(self.rng, self.dtype)} | given
        return self.model.tensor(shape, self.dtype, **given)

    def _bias(self, channels, wide):
        dtype = "int64" if wide else "int32"
        values = self.rng.integers(-3000, 3000, channels)
        return self.model.tensor((channels,), dtype, scale=[1e-3] * channels, values=values)

    def conv(
        self, channels, k=(3, 3), stride=(1, 1), dilation=(1, 1), padding=SAME, activation=NONE,
        depthwise=False, groups=1, per_tensor=False, low=-127, keep=False, bias64=True,
    ):  # fmt: skip
        h, w, c = self.shape[1:]
        rng = self.rng
        inner = c // groups
        shape = (1, *k, channels) if depthwise else (channels, *k, inner)
        values = rng.integers(low, 128, shape)
        fan = k[0] * k[1] * (1 if depthwise else inner)
        count = 1 if per_tensor else channels
        source = self.model.tensors[self.at]
        target = scale(rng)
        # Factors that spread the sums over about the output's range.
        spread = 60 * 60 * np.sqrt(fan) / (60 if self.dtype == "int8" else 1 / 4)
        scales = target / source["scale"][0] / spread * rng.uniform(0.5, 2, count)
        weights = self.model.tensor(
            shape, "int8", scale=scales, axis=3 if depthwise else 0, values=values
        )
        size = [
            out_size(s, kk, st, d, padding)
            for s, kk, st, d in zip((h, w), k, stride, dilation, strict=True)
        ]
        out = (1, *size, channels)
        made = self._new(out, scale=[target])
        options = {
            "Padding": padding, "StrideH": stride[0], "StrideW": stride[1],
            "DilationHFactor": dilation[0], "DilationWFactor": dilation[1],
            "FusedActivationFunction": activation,
        }  # fmt: skip
        if depthwise:
            options["DepthMultiplier"] = channels // c
        wide = self.dtype == "int16" and bias64
        if self.dtype == "int16" and not bias64:
            options["QuantizedBiasType"] = tflite.TensorType.INT32
        self.model.op(
            "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
            [self.at, weights, self._bias(channels, wide)], [made],
            version=3 if self.dtype == "int8" else 5, **options,
        )  # fmt: skip
        if not keep:
            self.at, self.shape = made, out
        return made

    def dense(self, outputs, activation=NONE, per_tensor=True):
        rng = self.rng
        inputs = int(np.prod(self.shape))
        values = rng.integers(-127, 128, (outputs, inputs))
        source = self.model.tensors[self.at]
        target = scale(rng)
        spread = 60 * 60 * np.sqrt(inputs) / (60 if self.dtype == "int8" else 1 / 4)
        scales = target / source["scale"][0] / spread * rng.uniform(0.5, 2, 1)
        del per_tensor
        weights = self.model.tensor((outputs, inputs), "int8", scale=scales, values=values)
        made = self._new((1, outputs), scale=[target])
        self.model.op(
            "FULLY_CONNECTED", [self.at, weights, self._bias(outputs, self.dtype == "int16")],
            [made], version=4 if self.dtype == "int8" else 7, FusedActivationFunction=activation,
        )  # fmt: skip
        self.at, self.shape = made, (1, outputs)

    def add(self, other, activation=NONE):
        made = self._new(self.shape)
        self.model.op(
            "ADD", [other, self.at], [made], version=2, FusedActivationFunction=activation
        )
        self.at = made

    def pool(self, kind, k, stride, padding=VALID, activation=NONE):
        h, w, c = self.shape[1:]
        size = [
            out_size(s, kk, st, 1, padding) for s, kk, st in zip((h, w), k, stride, strict=True)
        ]
        out = (1, *size, c)
        made = self._new(out, like=self.at)
        self.model.op(
            f"{kind}_POOL_2D", [self.at], [made], version=2, Padding=padding, FilterHeight=k[0],
            FilterWidth=k[1], StrideH=stride[0], StrideW=stride[1],
            FusedActivationFunction=activation,
        )  # fmt: skip
        self.at, self.shape = made, out

    def mean(self):
        axes = self.model.tensor((2,), "int32", values=[1, 2])
        out = (1, self.shape[3])
        source, ratio = self.model.tensors[self.at], self.rng.uniform(1, 1.5)
        centre = int(np.clip(source["zero_point"] / ratio, -128, 127))
        made = self._new(out, scale=[source["scale"][0] * ratio], zero_point=centre)
        self.model.op("MEAN", [self.at, axes], [made], version=2, KeepDims=False)
        self.at, self.shape = made, out

    def concat(self, others):
        tensors = [*others, self.at]
        for t in tensors[1:]:  # the kernels want one scale
            for key in ("scale", "zero_point"):
                self.model.tensors[t][key] = self.model.tensors[tensors[0]][key]
        channels = sum(self.model.tensors[t]["shape"][3] for t in tensors)
        out = (*self.shape[:3], channels)
        made = self._new(out, like=tensors[0])
        self.model.op("CONCATENATION", tensors, [made], version=2, Axis=3)
        self.at, self.shape = made, out

    def reshape(self, shape):
        target = self.model.tensor((len(shape) + 1,), "int32", values=[1, *shape])
        made = self._new((1, *shape), like=self.at)
        self.model.op("RESHAPE", [self.at, target], [made])
        self.at, self.shape = made, (1, *shape)

    def pad(self, top, left, bottom, right):
        values = [[0, 0], [top, bottom], [left, right], [0, 0]]
        amounts = self.model.tensor((4, 2), "int32", values=values)
        h, w, c = self.shape[1:]
        out = (1, h + top + bottom, w + left + right, c)
        made = self._new(out, like=self.at)
        self.model.op("PAD", [self.at, amounts], [made], version=2)
        self.at, self.shape = made, out

    def unary(self, kind):
        made = self._new(self.shape)
        self.model.op(kind, [self.at], [made], version=2 if kind != "QUANTIZE" else 1)
        self.at = made

    def softmax(self):
        made = self._new(self.shape, scale=[1 / 256], zero_point=-128)
        self.model.op("SOFTMAX", [self.at], [made], version=2, Beta=1.0)
        self.at = made

    def to_bytes(self):
        return self.model.to_bytes([self.input], [self.at])


def conv(rng, channels_in=5, size=(9, 8), **options):
    net = Net(rng, (*size, channels_in))
    net.conv(options.pop("channels", 18), **options)
    return net


def depthwise(rng, channels=18, multiplier=1, **options):
    net = Net(rng, (8, 9, channels))
    net.conv(channels * multiplier, depthwise=True, **options)
    return net


def pool(rng, kind, k, stride, padding=VALID, channels=6, size=(9, 10)):
    net = Net(rng, (*size, channels))
    net.pool(kind, k, stride, padding)
    return net


def chain(rng, *steps, shape=(8, 8, 4), dtype="int8"):
    """Return a model of steps, each (method, arguments, keywords)."""
    net = Net(rng, shape, dtype)
    for method, *args in steps:
        getattr(net, method)(*args)
    return net


def residual(rng, activation=RELU, shape=(9, 7, 6)):
    net = Net(rng, shape)
    net.conv(18)
    kept = net.at
    net.conv(20, activation=RELU)
    net.conv(18)
    net.add(kept, activation)
    net.conv(5, k=(1, 1))
    return net


def downsample(rng):
    net = Net(rng, (10, 10, 8))
    side = net.conv(20, k=(1, 1), stride=(2, 2), keep=True)
    net.conv(20, stride=(2, 2), activation=RELU)
    net.conv(20)
    net.add(side, RELU)
    return net


def nested(rng):
    """Two residual blocks, the first one's sum kept for the second; a lone ADD at the end."""
    net = Net(rng, (6, 6, 8))
    net.conv(16)
    for _ in range(2):
        kept = net.at
        net.conv(16, activation=RELU)
        net.conv(16)
        net.add(kept)
    net.add(net.at)
    return net


def concatenated(rng, channels=(8, 4), tail=True):
    net = Net(rng, (6, 7, 5))
    net.conv(12)
    parts = [net.conv(c, k=(1, 1), keep=True) for c in channels]
    net.pool("MAX", (3, 3), (1, 1), SAME)
    for part in parts:
        for key in ("scale", "zero_point"):
            net.model.tensors[part][key] = net.model.tensors[net.at][key]
    net.concat(parts)
    if tail:
        net.conv(7, activation=RELU)
    return net


#: Name -> model of a seed.
CASES = {
    "conv 3x3": lambda rng: conv(rng),
    "conv 3x3 valid relu": lambda rng: conv(rng, padding=VALID, activation=RELU),
    "conv stride 2 relu6": lambda rng: conv(rng, stride=(2, 2), activation=RELU6),
    "conv stride 2x1": lambda rng: conv(rng, stride=(2, 1), size=(10, 9)),
    "conv 1x1": lambda rng: conv(rng, k=(1, 1), channels_in=41, channels=33),
    "conv 1x1 stride 2": lambda rng: conv(rng, k=(1, 1), stride=(2, 2)),
    "conv 5x5": lambda rng: conv(rng, k=(5, 5)),
    "conv 10x4 stride 2": lambda rng: conv(
        rng, k=(10, 4), stride=(2, 2), channels_in=1, size=(25, 10)
    ),
    "conv 2x7 valid": lambda rng: conv(rng, k=(2, 7), padding=VALID),
    "conv dilation 2": lambda rng: conv(rng, dilation=(2, 2)),
    "conv dilation 3x1": lambda rng: conv(rng, dilation=(3, 1), size=(12, 6)),
    "conv per tensor": lambda rng: conv(rng, per_tensor=True),
    "conv grouped": lambda rng: conv(rng, channels_in=8, channels=32, groups=2),
    "depthwise": lambda rng: depthwise(rng),
    "depthwise stride 2": lambda rng: depthwise(rng, stride=(2, 2), activation=RELU),
    "depthwise 5x5": lambda rng: depthwise(rng, k=(5, 5), channels=7),
    "depthwise multiplier 2": lambda rng: depthwise(rng, channels=6, multiplier=2),
    "depthwise of one": lambda rng: depthwise(rng, channels=1, multiplier=8),
    "depthwise dilation": lambda rng: depthwise(rng, dilation=(2, 2)),
    "average pool 2x2": lambda rng: pool(rng, "AVERAGE", (2, 2), (2, 2)),
    "average pool whole": lambda rng: pool(rng, "AVERAGE", (9, 10), (1, 1), channels=19),
    "average pool 3x3 overlapping": lambda rng: pool(rng, "AVERAGE", (3, 3), (2, 2)),
    "average pool 25x5": lambda rng: pool(rng, "AVERAGE", (25, 5), (25, 5), size=(25, 5)),
    "max pool 2x2": lambda rng: pool(rng, "MAX", (2, 2), (2, 2)),
    "max pool 3x3 same": lambda rng: pool(rng, "MAX", (3, 3), (2, 2), SAME),
    "max pool 5x4": lambda rng: pool(rng, "MAX", (5, 4), (3, 2), SAME),
    "mean": lambda rng: chain(rng, ("mean",), shape=(7, 5, 9)),
    "fully connected": lambda rng: chain(rng, ("dense", 21), shape=(50,)),
    "fully connected, wide": lambda rng: chain(rng, ("dense", 400), shape=(90,)),
    "fully connected of a map": lambda rng: chain(rng, ("dense", 12, RELU), shape=(5, 4, 6)),
    "flatten": lambda rng: chain(
        rng, ("conv", 6), ("reshape", (384,)), ("dense", 10), ("softmax",)
    ),
    "keyword front": lambda rng: chain(
        rng, ("reshape", (12, 10, 1)), ("conv", 8, (4, 4), (2, 2)), ("mean",), ("dense", 3),
        shape=(120,),
    ),
    "pad and conv": lambda rng: chain(
        rng, ("pad", 1, 0, 2, 1), ("conv", 9, (3, 3), (2, 2), (1, 1), VALID)
    ),
    "pad and pool": lambda rng: chain(rng, ("pad", 1, 1, 1, 1), ("pool", "MAX", (3, 3), (2, 2))),
    "relu": lambda rng: chain(rng, ("unary", "RELU")),
    "relu6": lambda rng: chain(rng, ("conv", 5), ("unary", "RELU6")),
    "quantize": lambda rng: chain(rng, ("unary", "QUANTIZE"), ("conv", 5)),
    "residual": residual,
    "residual without relu": lambda rng: residual(rng, NONE),
    "downsample": downsample,
    "nested residuals": nested,
    "concat": concatenated,
    "concat unaligned": lambda rng: concatenated(rng, (5, 3)),
    "concat at the end": lambda rng: concatenated(rng, (5, 6), tail=False),
    "separable": lambda rng: chain(
        rng, ("conv", 16, (3, 3), (2, 2), (1, 1), SAME, RELU),
        ("conv", 16, (3, 3), (1, 1), (1, 1), SAME, RELU, True), ("conv", 24, (1, 1)),
        ("pool", "AVERAGE", (4, 4), (4, 4)), ("reshape", (24,)), ("dense", 4), ("softmax",),
    ),
}  # fmt: skip

#: 16-bit activations.
WIDE_CASES = {
    "conv": [("conv", 9)],
    "conv relu": [("conv", 9, (3, 3), (2, 2), (1, 1), VALID, RELU)],
    "conv 32-bit bias": [("conv", 9, (3, 3), (1, 1), (1, 1), SAME, 0, False, 1, False, -127,
                          False, False)],
    "depthwise": [("conv", 4, (3, 3), (1, 1), (1, 1), SAME, 0, True)],
    "dense": [("dense", 7)],
    "average pool": [("pool", "AVERAGE", (2, 2), (2, 2))],
    "max pool": [("pool", "MAX", (2, 2), (2, 2))],
}  # fmt: skip
