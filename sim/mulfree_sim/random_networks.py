"""Random networks for the engine's bench: a function for each kind of layer."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from mulfree.engine.layers import (
    TAPS,
    Conv,
    EngineShape,
    FeatureMap,
    Layer,
    MaxPool,
    Requantize,
    Residual,
)
from mulfree.engine.program import Coding, Program

Rng = np.random.Generator


def feature_map(shape: EngineShape, size: tuple[int, int, int], address: int) -> FeatureMap:
    """Return a map of its own at an address."""
    height, width, channels = size
    pitch = shape.slices(channels)
    return FeatureMap(height=height, width=width, channels=channels, address=address, pitch=pitch)


def program(shape: EngineShape, layers: list[Layer], source: FeatureMap) -> Program:
    """Return the layers as a program; the last one's target is the output."""
    m = layers[-1].target
    assert m is not None
    return Program(
        name="random",
        shape=shape,
        layers=tuple(layers),
        input=source,
        output=m,
        input_shape=(source.height, source.width, source.channels),
        output_shape=(m.height, m.width, m.channels),
        input_coding=Coding(0, 1.0),
        output_coding=Coding(0, 1.0),
    )


def requantize(shape: EngineShape, channels: int, taps: int, rng: Rng) -> Requantize:
    """Return parameters that bring sums of so many taps into the activations' range."""
    act = shape.act
    right = int(np.log2(max(taps, 1))) // 2 + shape.weight.bits - 2
    low, high = np.sort(rng.integers(act.low, act.high + 1, 2)).tolist()
    return Requantize(
        bias=rng.integers(-(1 << 12), 1 << 12, channels),
        multiplier=rng.integers(1 << 30, 1 << 31, channels),
        shift=-rng.integers(max(right - 2, 0), right + 1, channels),
        zero_point=int(rng.integers(act.low, act.high + 1)),
        low=act.low if rng.random() < 0.7 else low,
        high=act.high if rng.random() < 0.7 else high,
    )


def conv(
    shape: EngineShape, source: FeatureMap, channels: int, address: int, rng: Rng,
    mode: str = "window", windows: tuple[tuple[int, int], ...] = ((0, 0),),
    depthwise: bool = False, stride: int = 1, origin: int = -1, size: tuple[int, int] | None = None,
    **extra: Any,
) -> Conv:  # fmt: skip
    """Return a convolution with random weights, zero where there is no channel."""
    C, wide = shape.slice_channels, shape.outputs
    slices = shape.slices(source.channels)
    own = wide // C if depthwise else slices
    groups = shape.groups(channels)
    per_window = own if mode == "window" else -(-own // TAPS)
    weights = rng.choice(
        shape.weight.values(), (groups, len(windows) * per_window, shape.lanes, wide)
    )
    for group in range(groups):
        for index in range(weights.shape[1]):
            for lane in range(shape.lanes):
                tap, channel = divmod(lane, C)
                beat = index % per_window
                s = beat if mode == "window" else beat * TAPS + tap
                here = (group * (wide // C) if depthwise else 0) + s
                if s >= own or here * C + channel >= source.channels:
                    weights[group, index, lane] = 0
                elif depthwise:
                    weights[group, index, lane, np.arange(wide) != s * C + channel] = 0
        weights[group, :, :, np.arange(wide) + group * wide >= channels] = 0
    height, width = size or (-(-source.height // stride), -(-source.width // stride))
    taps = len(windows) * per_window * (TAPS if depthwise else shape.lanes)
    return Conv(
        name=f"{mode} {source.height}x{source.width}x{source.channels} to "
        f"{height}x{width}x{channels} windows {len(windows)} stride {stride}",
        source=source,
        target=feature_map(shape, (height, width, channels), address),
        height=height,
        width=width,
        channels=channels,
        mode=mode,
        stride_y=stride,
        stride_x=stride,
        origin_y=origin,
        origin_x=origin,
        windows=windows,
        slice_step=wide // C if depthwise else 0,
        slices=own,
        fill=int(rng.integers(shape.act.low, shape.act.high + 1)),
        weights=weights,
        requantize=requantize(shape, channels, taps, rng),
        **extra,
    )


def _source(shape: EngineShape, rng: Rng, channels: int) -> FeatureMap:
    height, width = rng.integers(3, 9, 2).tolist()
    return feature_map(shape, (height, width, channels), int(rng.integers(0, 5)))


def one_slice(shape: EngineShape, rng: Rng) -> Program:
    """One tile in all: weights stay where they are from chunk to chunk."""
    source = _source(shape, rng, shape.slice_channels)
    address = source.address + source.words
    return program(shape, [conv(shape, source, shape.outputs, address, rng)], source)


def several_groups(shape: EngineShape, rng: Rng) -> Program:
    """Groups, slices, a last group that is not full, and a stride."""
    source = _source(shape, rng, 2 * shape.slice_channels + 1)
    channels = min(2 * shape.outputs - 1, shape.channels)
    address = source.address + source.words
    layer = conv(shape, source, channels, address, rng, stride=int(rng.integers(1, 4)))
    return program(shape, [layer], source)


def points(shape: EngineShape, rng: Rng) -> Program:
    """A 1 × 1 convolution over more slices than one beat has, one of them a stride apart."""
    source = _source(shape, rng, 10 * shape.slice_channels)
    channels, address = shape.outputs + 1, source.address + source.words
    stride = int(rng.integers(1, 3))
    layer = conv(shape, source, channels, address, rng, mode="point", stride=stride, origin=0)
    return program(shape, [layer], source)


def sub_windows(shape: EngineShape, rng: Rng) -> Program:
    """A kernel of four windows, then one whose windows are dilated points, padded by more."""
    source = _source(shape, rng, 2 * shape.slice_channels)
    address = source.address + source.words
    four = ((0, 0), (0, 3), (3, 0), (3, 3))
    first = conv(shape, source, shape.outputs, address, rng, windows=four, origin=-2)
    assert first.target is not None
    address += first.target.words
    far = tuple((y, x) for y in (-2, 0, 2) for x in (-2, 0, 2))
    second = conv(
        shape, first.target, shape.outputs, address, rng, mode="point", windows=far, origin=0
    )
    return program(shape, [first, second], source)


def depthwise(shape: EngineShape, rng: Rng) -> Program:
    """Each channel by itself, two groups."""
    channels = min(2 * shape.outputs, shape.channels)
    source = _source(shape, rng, channels)
    address = source.address + source.words
    return program(shape, [conv(shape, source, channels, address, rng, depthwise=True)], source)


def averages(shape: EngineShape, rng: Rng) -> Program:
    """Channels summed over a map that is larger than a window, all windows with the same weights,
    and then with two kinds of them.
    """
    channels = shape.outputs
    source = feature_map(shape, (6, 5, channels), 2)
    address = source.address + source.words
    windows = ((0, 0), (0, 3), (3, 0), (3, 3))
    layer = conv(
        shape,
        source,
        channels,
        address,
        rng,
        windows=windows,
        depthwise=True,
        origin=0,
        size=(1, 1),
    )
    each = layer.weights.reshape(1, len(windows), -1, shape.lanes, shape.outputs)
    each[:, 1:3] = each[:, :1]
    if rng.random() < 0.5:
        each[:, 3] = each[:, 0]
    return program(shape, [layer], source)


def residual(shape: EngineShape, rng: Rng) -> Program:
    """A map that is kept, one that is added to it and kept in its place, and again."""
    source = _source(shape, rng, shape.slice_channels)
    channels, address = shape.outputs + 1, source.address + source.words
    first = conv(shape, source, channels, address, rng, keep=3)
    assert first.target is not None
    layers: list[Layer] = [first]
    maps = [first.target]
    for keep in (3, None):
        address += maps[-1].words
        most = 1 << (2 * shape.act.bits + 1)
        extra = Residual(
            address=3,
            own=rng.integers(-most, most, 1 << shape.act.bits),
            kept=rng.integers(-most, most, 1 << shape.act.bits),
            fraction=shape.act.bits,
            low=shape.act.low,
            high=shape.act.high,
        )
        layer = conv(shape, maps[-1], channels, address, rng, residual=extra, keep=keep)
        assert layer.target is not None
        layers.append(layer)
        maps.append(layer.target)
    return program(shape, layers, source)


def small_pool(shape: EngineShape, rng: Rng) -> Program:
    """The largest of 2 × 2 that reaches over the border, where it may be below zero."""
    source = _source(shape, rng, shape.slice_channels + 1)
    size = (source.height // 2 + 1, source.width // 2 + 1, source.channels)
    layer = MaxPool(
        name="largest of 2x2", source=source,
        target=feature_map(shape, size, source.address + source.words),
        rows=2, columns=2, stride_y=2, stride_x=2, origin_y=-1, origin_x=-1,
        low=shape.act.low, high=shape.act.high,
    )  # fmt: skip
    return program(shape, [layer], source)


def pools(shape: EngineShape, rng: Rng) -> Program:
    """The largest of 2 × 2, then of four windows of 2 × 3 with a border."""
    source = _source(shape, rng, 3 * shape.slice_channels)
    address = source.address + source.words
    size = (source.height // 2, source.width // 2, source.channels)
    target = feature_map(shape, size, address)
    low, high = shape.act.low, shape.act.high
    first = MaxPool(
        name="largest of 2x2", source=source, target=target, rows=2, columns=2,
        stride_y=2, stride_x=2, low=low + 3, high=high - 3,
    )  # fmt: skip
    second = MaxPool(
        name="largest of 4x6",
        source=target,
        target=feature_map(shape, size, address + target.words),
        rows=2,
        columns=3,
        origin_y=-1,
        origin_x=-2,
        windows=((0, 0), (0, 3), (2, 0), (2, 3)),
        low=low,
        high=high,
    )
    return program(shape, [first, second], source)


def one_pixel(shape: EngineShape, rng: Rng) -> Program:
    """A dense layer: one pixel, many tiles, one output group after the other."""
    source = feature_map(shape, (3, 6, 2 * shape.slice_channels), 1)
    address = source.address + source.words
    layer = conv(
        shape, source, min(2 * shape.outputs, shape.channels), address, rng,
        windows=((0, 0), (0, 3)), origin=0, size=(1, 1),
    )  # fmt: skip
    return program(shape, [layer], source)


#: Every kind of network that the bench tries.
KINDS = {
    f.__name__: f
    for f in (
        one_slice, several_groups, points, sub_windows, depthwise, averages, residual, small_pool,
        pools, one_pixel,
    )
}  # fmt: skip


def runnable(shape: EngineShape, kinds: Iterable[str] = tuple(KINDS)) -> list[str]:
    """Return those kinds that an engine has the parts for: sums need a residual memory."""
    return [kind for kind in kinds if shape.keep_words or kind != residual.__name__]
