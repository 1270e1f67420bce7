"""Golden model of the network engine: what a Program makes of its inputs, bit for bit.

Sums of products are made in float64, which is exact: a sum of 2^20 products of 16 and 16 bits stays
below 2^53.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.engine.layers import TAPS, Conv, FeatureMap, Layer, MaxPool
from mulfree.engine.program import Program, ProgramError
from mulfree.formats import Int
from mulfree_sim.golden.requantizer import multiply_by_quantized_multiplier
from mulfree_sim.golden.softmax import softmax

Array = NDArray[np.int64]


class Engine:
    """The engine's memories, for several inputs at a time.

    Members
    -------
    maps : (n, 9, map_words, C), int64
        The feature map memory.
    kept : (n, keep_words, scalers), int64
        The residual memory.
    """

    def __init__(self, program: Program, codes: ArrayLike) -> None:
        values = program.shape.act.check(codes, "input")
        if values.shape[1:] != program.input_shape:
            raise ProgramError(
                f"input must have shape (n, {', '.join(map(str, program.input_shape))}), "
                f"not {values.shape}"
            )
        shape = program.shape
        self.shape = shape
        self.maps = np.zeros((len(values), TAPS, program.map_words, shape.slice_channels), np.int64)
        self.kept = np.zeros((len(values), program.keep_words, shape.scalers), np.int64)
        m = program.input
        self.write(m, values.reshape(len(values), m.height, m.width, m.channels))

    def _where(self, m: FeatureMap) -> tuple[Array, Array]:
        """Return bank and address of each word, shapes (height, width, slices)."""
        y, x, s = np.indices((m.height, m.width, self.shape.slices(m.channels)))
        return m.bank(y, x, s), m.word(y, x, s)

    def write(self, m: FeatureMap, values: Array) -> None:
        """Write a map, shape (n, height, width, channels)."""
        C = self.shape.slice_channels
        spare = -m.channels % C
        padded = np.pad(values, ((0, 0), (0, 0), (0, 0), (0, spare)))
        self.maps[:, *self._where(m)] = padded.reshape(*values.shape[:3], -1, C)

    def read(self, m: FeatureMap) -> Array:
        """Read a map with all channels of its slices, shape (n, height, width, slices · C)."""
        found = self.maps[:, *self._where(m)]
        return found.reshape(*found.shape[:3], -1)

    def run(self, layer: Layer) -> Array:
        """Run a layer; return its outputs, shape (n, height, width, channels)."""
        return self.convolve(layer) if isinstance(layer, Conv) else self.pool(layer)

    def patches(self, layer: Layer, x: Array, size: tuple[int, int], fill: int) -> Array:
        """Return the windows of every output, shape (n, height, width, windows, 3, 3, channels)."""
        wy, wx = np.array(layer.windows).T
        d = np.arange(3)
        y = np.arange(size[0])[:, None, None] * layer.stride_y + layer.origin_y
        y = y + wy[:, None] + d
        x_ = np.arange(size[1])[:, None, None] * layer.stride_x + layer.origin_x
        x_ = x_ + wx[:, None] + d
        # One row and column of the fill around the map stand for all that is outside.
        framed = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
        y = np.clip(y, -1, x.shape[1]) + 1
        x_ = np.clip(x_, -1, x.shape[2]) + 1
        return framed[:, y[:, None, :, :, None], x_[None, :, :, None, :]]

    def convolve(self, layer: Conv) -> Array:
        """Run a convolution: per group of outputs, beats of lanes times tiles of weights."""
        shape, q = self.shape, layer.requantize
        C, wide = shape.slice_channels, shape.outputs
        x = self.read(layer.source).astype(np.float32 if shape.act.bits <= 8 else np.float64)
        n, size = len(x), (layer.height, layer.width)
        found = self.patches(layer, x, size, layer.fill)
        if layer.mode == "point":
            found = found[..., :1, :1, :]
        taps = found.shape[4] * found.shape[5]
        slices = x.shape[3] // C
        lanes = found.reshape(n * layer.pixels, len(layer.windows), taps, slices, C)
        acc = np.zeros((n * layer.pixels, layer.groups * wide), np.int64)
        for group in range(layer.groups):
            first = group * layer.slice_step
            own = lanes[:, :, :, first : first + layer.slices]
            here = own.shape[3]
            tiles = layer.weights[group].reshape(
                len(layer.windows), layer.beats_per_window, TAPS, C, wide
            )
            if layer.mode == "window":
                tiles = tiles[:, :here].transpose(0, 2, 1, 3, 4)
            else:
                tiles = tiles.reshape(len(layer.windows), 1, -1, C, wide)[:, :, :here]
            used = tiles.any(axis=(0, 2, 3, 4)) if layer.mode == "window" else slice(None)
            left = own[:, :, used].reshape(len(own), -1).astype(np.float64)
            right = tiles[:, used].reshape(-1, wide).astype(np.float64)
            acc[:, group * wide : group * wide + wide] = left @ right
        acc = acc[:, : layer.channels] + q.bias
        total = Int(shape.acc_bits).decode(acc.astype(np.uint64))
        out = self.scaled(total, q.multiplier, q.shift)
        out = np.clip(out + q.zero_point, q.low, q.high).reshape(n, *size, layer.channels)
        if layer.residual is not None:
            r = layer.residual
            kept = self.take(layer, r.address)
            # A negative index counts from the end: the place of a bit pattern.
            out = np.clip((r.own[out] + r.kept[kept]) >> r.fraction, r.low, r.high)
        if layer.keep is not None:
            self.keep(layer, out, layer.keep)
        if layer.target is not None:
            self.write(layer.target, out)
        return out

    def scaled(self, total: Array, multiplier: Array, shift: Array) -> Array:
        """Return sums times the factor of their channel."""
        if self.shape.rounding == "single" and not (multiplier & 0xFFFF).any():
            # The same with 15 bits, which leaves room for sums of more than 32.
            return multiply_by_quantized_multiplier(total, multiplier >> 16, shift, bits=15)
        return multiply_by_quantized_multiplier(total, multiplier, shift, self.shape.rounding)

    def keep(self, layer: Conv, out: Array, address: int) -> None:
        """Write outputs to the residual memory in the order in which they drain."""
        shape = self.shape
        spare = layer.groups * shape.outputs - layer.channels
        padded = np.pad(out, ((0, 0), (0, 0), (0, 0), (0, spare)))
        grouped = padded.reshape(len(out), layer.pixels, layer.groups, shape.outputs)
        words = grouped.transpose(0, 2, 1, 3).reshape(len(out), -1, shape.scalers)
        self.kept[:, address : address + words.shape[1]] = words

    def take(self, layer: Conv, address: int) -> Array:
        """Read as many activations as a layer drains, shape (n, height, width, channels)."""
        shape = self.shape
        words = self.kept[:, address : address + layer.kept_words(shape)]
        grouped = words.reshape(len(words), layer.groups, layer.pixels, shape.outputs)
        pixels = grouped.transpose(0, 2, 1, 3).reshape(len(words), layer.height, layer.width, -1)
        return pixels[..., : layer.channels]

    def pool(self, layer: MaxPool) -> Array:
        """Run a maximum pool."""
        m = layer.target
        x = self.read(layer.source)
        found = self.patches(layer, x, (m.height, m.width), self.shape.act.low)
        found = found[:, :, :, :, : layer.rows, : layer.columns].max(axis=(3, 4, 5))
        out = np.clip(found, layer.low, layer.high)[..., : m.channels]
        self.write(m, out)
        return out


def finish(program: Program, codes: Array) -> Array:
    """Return what the user gets of the engine's outputs: the host's softmax is in it."""
    if program.softmax:
        return softmax(codes, program.output_coding.scale, program.softmax)
    return codes


def results(program: Program, codes: ArrayLike, batch: int = 4) -> Array:
    """Return the outputs of a program, shape (n, …) to (n, …).

    Raises
    ------
    ProgramError
        The inputs do not have the program's shape.
    """
    codes = np.asarray(codes)
    found = []
    for first in range(0, len(codes), batch):
        engine = Engine(program, codes[first : first + batch])
        for layer in program.layers:
            engine.run(layer)
        m = program.output
        out = engine.read(m)[..., : m.channels]
        found.append(finish(program, out.reshape(-1, *program.output_shape)))
    return np.concatenate(found)
