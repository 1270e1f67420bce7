"""A network's layers as words of the engine's program memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Shape
from amaranth.lib import data

from mulfree.engine.geometry import BANKS, Geometry
from mulfree.engine.layers import Conv, FeatureMap, Layer, MaxPool
from mulfree.engine.schedule import Work
from mulfree.spec import SpecError


def work(geometry: Geometry, layer: Layer) -> Work:
    """Return what the time of a layer depends on."""
    if isinstance(layer, MaxPool):
        groups = -(-layer.target.channels // geometry.slice)
        return Work(
            loads=((False,) * len(layer.windows),) * groups,
            pixels=layer.target.pixels,
            pieces=1,
            rows=1,
            terms=0,
        )
    return Work(
        loads=tuple(_loads(layer, group) for group in range(layer.groups)),
        pixels=layer.pixels,
        pieces=geometry.pieces,
        rows=layer.groups * geometry.pieces,
        terms=0 if layer.residual is None else geometry.term_count,
    )


def _order(layer: Conv) -> list[int]:
    """Return the beats of a pixel in the order in which they are computed.

    The windows of the same slices follow each other: those of an average have the same weights.
    """
    beats = np.arange(layer.beats).reshape(len(layer.windows), layer.beats_per_window)
    return beats.T.ravel().tolist()


def _loads(layer: Conv, group: int) -> tuple[bool, ...]:
    """Return for each tile of a group whether its weights differ from those before."""
    weights = layer.weights[group, _order(layer)]
    changes = (weights[1:] != weights[:-1]).any(axis=(1, 2))
    return (True, *changes.tolist())


def program(geometry: Geometry, layers: Sequence[Layer]) -> list[int]:
    """Return the words of a network.

    Raises
    ------
    SpecError
        A layer does not fit the engine, or the words do not fit its memory.
    """
    words = [
        word
        for index, layer in enumerate(layers)
        for word in _layer_words(geometry, layer, index == len(layers) - 1)
    ]
    if len(words) > geometry.program_words:
        raise SpecError(
            f"program_words must be at least {len(words)} for this network, "
            f"not {geometry.program_words}"
        )
    return words


def _layer_words(geometry: Geometry, layer: Layer, last: bool) -> Iterator[int]:
    fields = _common(geometry, layer) | {"last": last}
    if isinstance(layer, Conv):
        fields |= _conv(geometry, layer)
    else:
        fields |= _pool(geometry, layer)
    yield from record(geometry, geometry.layer_layout, fields, layer.name)
    yield from _rows(geometry, layer)
    if isinstance(layer, Conv) and layer.residual is not None:
        for own, kept in zip(layer.residual.own, layer.residual.kept, strict=True):
            entry = {"own": int(own), "kept": int(kept)}
            yield from record(geometry, geometry.term_layout, entry, layer.name)
    for group, loads in enumerate(work(geometry, layer).loads):
        yield from _tiles(geometry, layer, group, loads)


def _common(geometry: Geometry, layer: Layer) -> dict[str, int]:
    """Return the fields that every type of layer has."""
    source, done = layer.source, work(geometry, layer)
    pitch_y, pitch_x = _pitches(source)
    fields = {
        "groups": len(done.loads),
        "tiles": len(done.loads[0]),
        "rows": done.rows,
        "weights": isinstance(layer, Conv),
        "pixels": done.pixels,
        "pieces": done.pieces,
        "height": source.height,
        "width": source.width,
        "pitch_y": pitch_y,
        "pitch_x": pitch_x,
        "y": layer.origin_y,
        "x": layer.origin_x,
        "ry": layer.origin_y % 3,
        "rx": layer.origin_x % 3,
        # Taps outside of the map are not read: their addresses may wrap around.
        "address_y": (layer.origin_y // 3 * pitch_y + source.address + source.first)
        % (1 << geometry.map_bits),
        "address_x": layer.origin_x // 3 * pitch_x % (1 << geometry.map_bits),
        "stride_y": layer.stride_y,
        "stride_x": layer.stride_x,
        "step_ry": layer.stride_y % 3,
        "step_rx": layer.stride_x % 3,
        "step_y": layer.stride_y // 3 * pitch_y,
        "step_x": layer.stride_x // 3 * pitch_x,
    }
    target = layer.target
    if target is not None:
        to_pitch_y, to_pitch_x = _pitches(target)
        fields |= {
            "to_address": target.address + target.first,
            "to_rotate": target.first % BANKS,
            "to_pitch_y": to_pitch_y,
            "to_pitch_x": to_pitch_x,
            "to_slices": -(-target.channels // geometry.slice),
        }
    return fields


def _pitches(m: FeatureMap) -> tuple[int, int]:
    return -(-m.width // 3) * m.pitch, m.pitch


def _conv(geometry: Geometry, layer: Conv) -> dict[str, int]:
    fields = {
        "point": layer.mode == "point",
        "keep": layer.keep is not None,
        "keep_address": layer.keep or 0,
        "columns": layer.width,
        "pad": layer.fill,
        "taps": 0x3F,
        "group_slices": geometry.core.outputs // geometry.slice,
        "group_rotate": geometry.core.outputs // geometry.slice % BANKS,
        "zero": layer.requantize.zero_point,
        "low": layer.requantize.low,
        "high": layer.requantize.high,
    }
    residual = layer.residual
    if residual is not None:
        fields |= {
            "add": 1,
            "kept_address": residual.address,
            "sum_low": residual.low,
            "sum_high": residual.high,
        }
    return fields


def _pool(geometry: Geometry, layer: MaxPool) -> dict[str, int]:
    return {
        "maximum": 1,
        "columns": layer.target.width,
        "pad": geometry.core.act_format.low,  # what taps outside count as
        "taps": (1 << layer.rows) - 1 | ((1 << layer.columns) - 1) << 3,
        "group_slices": 1,
        "group_rotate": 1,
        "low": layer.low,
        "high": layer.high,
    }


def _shifts(geometry: Geometry, shift: int) -> dict[str, int]:
    """Return the bits shifted to the right, and to the left where there are some."""
    right = min(max(-shift, 0), geometry.scaler.right_shift)
    return {"right": right} | ({"left": shift} if shift > 0 else {})


def _rows(geometry: Geometry, layer: Layer) -> Iterator[int]:
    """Yield the rows of parameters."""
    lanes = geometry.scalers
    if isinstance(layer, MaxPool):  # whose accumulators are twice the activation
        half = {f"multiplier_{lane}": 1 << 30 for lane in range(lanes)}
        yield from record(geometry, geometry.row_layout, half, layer.name)
        return
    q = layer.requantize
    for row in range(layer.groups * geometry.pieces):
        fields = {}
        for lane in range(lanes):
            channel = row * lanes + lane
            if channel < layer.channels:
                fields[f"bias_{lane}"] = int(q.bias[channel])
                fields[f"multiplier_{lane}"] = int(q.multiplier[channel])
                for name, bits in _shifts(geometry, int(q.shift[channel])).items():
                    fields[f"{name}_{lane}"] = bits
        yield from record(geometry, geometry.row_layout, fields, layer.name)


def _tiles(geometry: Geometry, layer: Layer, group: int, loads: tuple[bool, ...]) -> Iterator[int]:
    """Yield a group's tiles: the head of each, and its weights where it comes with some."""
    pitch_y, pitch_x = _pitches(layer.source)
    order = _order(layer) if isinstance(layer, Conv) else range(len(loads))
    for tile, (at, load) in enumerate(zip(order, loads, strict=True)):
        if isinstance(layer, Conv):
            index, beat = divmod(at, layer.beats_per_window)
            oy, ox = layer.windows[index]
            first = group * layer.slice_step + beat * (BANKS if layer.mode == "point" else 1)
        else:
            (oy, ox), first = layer.windows[at], group
        fields = {
            "y": oy,
            "x": ox,
            "ry": oy % 3,
            "rx": ox % 3,
            "address": (oy // 3 * pitch_y + ox // 3 * pitch_x + first) % (1 << geometry.map_bits),
            "rotate": (layer.source.first + first) % BANKS,
            "last": tile == len(loads) - 1 or loads[tile + 1],
        }
        yield from record(geometry, geometry.tile_layout, fields, layer.name)
        if load and isinstance(layer, Conv):
            coding = geometry.core.weight_format
            codes, bits = coding.encode(layer.weights[group, at].ravel()), coding.code_bits
            for words in np.asarray(codes).reshape(-1, geometry.core.load_weights):
                yield sum(int(code) << place * bits for place, code in enumerate(words))


def record(
    geometry: Geometry, layout: data.StructLayout, fields: Mapping[str, Any], name: str
) -> list[int]:
    """Return the words of a record; fields that are not given are 0.

    Raises
    ------
    SpecError
        A value does not fit its field.
    """
    total = 0
    for key, value in fields.items():
        field = layout[key]
        shape, value = Shape.cast(field.shape), int(value)
        low = -(1 << (shape.width - 1)) if shape.signed else 0
        high = low + (1 << shape.width) - 1
        if not low <= value <= high:
            raise SpecError(f"{key} of {name} must be between {low} and {high}, not {value}")
        total |= (value & ((1 << shape.width) - 1)) << field.offset
    size = geometry.word_bits
    return [total >> (size * i) & ((1 << size) - 1) for i in range(geometry.words(layout))]
