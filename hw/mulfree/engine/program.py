"""The Program of a network: layers with their weights, and its binary form (``.mfp``).

Little-endian words of 32 bits, two's complement:

======= ==========================================================================================
word    content
======= ==========================================================================================
0       ``MFP2`` in ASCII
1       format version
2       words in all, the CRC included
3 on    the engine that it is laid out for: `NEEDS`, a word each
then    input map, output map: height, width, channels, address, pitch, first
then    zero point of the input, of the output; scales of both, double precision
then    beta of a softmax on the host, double precision; 0 where there is none
then    number of layers; words of names; words of the descriptors; words of the weights
then    names: UTF-8 JSON ``{"name", "input", "output", "layers"}``, padded with blanks to words
then    descriptors, weights
last    CRC-32 (IEEE 802.3) of all words before
======= ==========================================================================================

A descriptor begins with its type (1 convolution, 2 maximum pool) and its number of words. Then the
fields of `Conv` or `MaxPool` in the order of `CONV_FIELDS` or `POOL_FIELDS`; maps are six words, an
absent one six times -1; windows are their number and pairs. A convolution goes on with bias,
multiplier and shift of each channel, and with the residual's tables. Weights: the codes of every
tile one after the other as `Conv.weights` has them, as narrow as the coding, lowest bits first,
each layer beginning a word.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
from mulfree.formats import Int, PowerOfTwo

MAGIC = b"MFP2"
FORMAT = 1
CONV, MAX_POOL = 1, 2
ROUNDINGS = ("single", "double")
MODES = ("window", "point")
#: What of an engine a program is laid out for; an engine that runs it has the same or more.
NEEDS = (
    "outputs", "slice_channels", "scalers", "act_bits", "act_signed", "weight_bits",
    "weight_terms", "rounding", "acc_bits", "left_shift", "channels", "map_words", "keep_words",
)  # fmt: skip
#: Those of which an engine may have more.
AT_LEAST = ("acc_bits", "left_shift", "channels", "map_words", "keep_words")
CONV_FIELDS = (
    "height", "width", "channels", "stride_y", "stride_x", "origin_y", "origin_x", "slice_step",
    "slices", "fill", "macs",
)  # fmt: skip
POOL_FIELDS = ("rows", "columns", "stride_y", "stride_x", "origin_y", "origin_x", "low", "high")


class ProgramError(ValueError):
    """A program is damaged, or of a form that is not supported; the message is one sentence."""


@dataclass(frozen=True)
class Coding:
    """What activations stand for: ``real = scale · (code - zero_point)``."""

    zero_point: int
    scale: float


@dataclass(frozen=True, kw_only=True)
class Program:
    """A network laid out for an engine.

    Members
    -------
    shape : EngineShape
        The engine that it was laid out for.
    input, output : FeatureMap
        Where the host puts the input, pixel by pixel, and where it finds the output.
    input_shape, output_shape : tuple of int
        What the user sees, in the same order of codes.
    softmax : float
        Beta of the softmax that the host computes at the end; 0 where there is none.
        `output_coding` is that of the engine's output all the same.
    """

    name: str
    shape: EngineShape
    layers: tuple[Layer, ...]
    input: FeatureMap
    output: FeatureMap
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    input_coding: Coding
    output_coding: Coding
    softmax: float = 0.0

    @property
    def convolutions(self) -> Iterator[Conv]:
        """Layers with weights."""
        return (layer for layer in self.layers if isinstance(layer, Conv))

    def cycles(self, engine: Any) -> int:
        """Return the clocks that one input takes on an engine, a Spec of the unit `network`."""
        return sum(engine.layer_cycles(self))

    @property
    def map_words(self) -> int:
        """Words of each bank of the map memory that are needed."""
        targets = [layer.target for layer in self.layers if layer.target is not None]
        return max(m.address + m.words for m in (self.input, *targets))

    @property
    def keep_words(self) -> int:
        """Words of the residual memory that are needed."""
        return max(
            (c.keep + c.kept_words(self.shape) for c in self.convolutions if c.keep is not None),
            default=0,
        )

    @property
    def channels(self) -> int:
        """Output channels of the widest layer, whole groups counted."""
        return max((c.groups * self.shape.outputs for c in self.convolutions), default=0)

    @property
    def left_shift(self) -> int:
        """Largest left shift of a requantizer."""
        return max([0, *(int(c.requantize.shift.max()) for c in self.convolutions)])

    @property
    def needs(self) -> dict[str, int]:
        """What an engine must have, by the names of `NEEDS`."""
        shape = self.shape
        return {
            "outputs": shape.outputs,
            "slice_channels": shape.slice_channels,
            "scalers": shape.scalers,
            **_coding_words(shape),
            "rounding": ROUNDINGS.index(shape.rounding),
            "acc_bits": shape.acc_bits,
            "left_shift": self.left_shift,
            "channels": self.channels,
            "map_words": self.map_words,
            "keep_words": self.keep_words,
        }

    @property
    def least(self) -> dict[str, int]:
        """The least that an engine's Spec can say of what this program needs room in."""
        return {
            "left_shift": self.left_shift,
            "channels": max(self.channels, 1),
            "map_words": max(self.map_words, 4),
            "keep_words": self.keep_words + self.keep_words % 2,
        }

    def check_runs_on(self, engine: EngineShape) -> None:
        """Check that an engine is what this program is laid out for, and has room for it.

        Raises
        ------
        ProgramError
            With what is needed and what is there.
        """
        there = {
            **{n: getattr(engine, n) for n in NEEDS if hasattr(engine, n)},
            **_coding_words(engine),
            "rounding": ROUNDINGS.index(engine.rounding),
        }
        for name, own in self.needs.items():
            if there[name] < own if name in AT_LEAST else there[name] != own:
                words = [str(v) if name != "rounding" else ROUNDINGS[v] for v in (own, there[name])]
                atleast = "at least " if name in AT_LEAST else ""
                raise ProgramError(
                    f"program needs {name.replace('_', ' ')} of {atleast}{words[0]}, "
                    f"but the engine has {words[1]}"
                )
        words = len(self.to_bytes()) // 4
        if words > engine.program_words > 0:
            raise ProgramError(
                f"program needs {words} words of program memory, "
                f"but the engine has {engine.program_words}"
            )

    # Activations

    def place(self, codes: ArrayLike) -> NDArray[np.int64]:
        """Return what the map memory holds for one input, shape (9, map_words, C)."""
        C = self.shape.slice_channels
        memory = np.zeros((TAPS, self.map_words, C), np.int64)
        where, whole = self.places(self.input)
        padded = np.zeros((self.input.pixels, whole * C), np.int64)
        padded[:, : self.input.channels] = np.asarray(codes).reshape(self.input.pixels, -1)
        memory[where] = padded.reshape(-1, C)
        return memory

    def take(self, memory: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the output in a map memory, shape `output_shape`; the softmax is not in it."""
        where, _ = self.places(self.output)
        pixels = memory[where].reshape(self.output.pixels, -1)[:, : self.output.channels]
        return pixels.reshape(self.output_shape)

    def places(self, m: FeatureMap) -> tuple[tuple[NDArray, NDArray], int]:
        """Return bank and address of every word of a map, and its slices."""
        slices = self.shape.slices(m.channels)
        y, x, s = (a.ravel() for a in np.indices((m.height, m.width, slices)))
        return (m.bank(y, x, s), m.word(y, x, s)), slices

    def encode(self, real: ArrayLike) -> NDArray[np.int64]:
        """Return the codes nearest to real inputs."""
        coding, act = self.input_coding, self.shape.act
        codes = np.rint(np.asarray(real, np.float64) / coding.scale) + coding.zero_point
        return np.clip(codes, act.low, act.high).astype(np.int64)

    # Binary form

    def to_bytes(self) -> bytes:
        """Return the binary form."""
        descriptors: list[int] = []
        weights = b""
        for layer in self.layers:
            words = _conv_words(layer) if isinstance(layer, Conv) else _pool_words(layer)
            descriptors += [words[0], len(words) + 1, *words[1:]]
            if isinstance(layer, Conv):
                weights += _pack(self.shape.weight, layer.weights)
        names = json.dumps(
            {
                "name": self.name,
                "input": self.input_shape,
                "output": self.output_shape,
                "layers": [layer.name for layer in self.layers],
            }
        ).encode()
        names += b" " * (-len(names) % 4)
        scales = self.input_coding.scale, self.output_coding.scale, self.softmax
        body = _words(
            [
                *self.needs.values(),
                *_map_words(self.input),
                *_map_words(self.output),
                self.input_coding.zero_point,
                self.output_coding.zero_point,
            ]
        )
        body += struct.pack("<ddd", *scales)
        body += _words([len(self.layers), len(names) // 4, len(descriptors), len(weights) // 4])
        body += names + _words(descriptors) + weights
        head = MAGIC + _words([FORMAT, 4 + len(body) // 4])
        return head + body + struct.pack("<I", zlib.crc32(head + body))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read the binary form.

        Raises
        ------
        ProgramError
            It is not a program, damaged, or of another format version.
        """
        whole_words(content, MAGIC, FORMAT, header=3)
        try:
            program = cls(**_read(_Words(content[12:-4])))
            same = program.to_bytes() == content
        except (ValueError, IndexError, KeyError, TypeError, struct.error, MemoryError) as error:
            raise ProgramError(f"program must hold what it states, not less ({error})") from None
        if not same:
            raise ProgramError("program's layout must follow from its layers, not differ from them")
        return program


def whole_words(content: bytes, magic: bytes, version: int, header: int) -> NDArray[np.int64]:
    """Return a file's words once its frame is right: magic, format, number of words, CRC-32.

    Parameters
    ----------
    header
        Words that a file has at the least, beside the CRC.

    Raises
    ------
    ProgramError
        It is not a program, damaged, or of another format version.
    """
    if len(content) < 4 * (header + 1) or len(content) % 4:
        raise ProgramError(f"program must be whole words with a header, not {len(content)} bytes")
    if content[:4] != magic:
        raise ProgramError(f"program must begin with {magic.decode()}, not {content[:4]!r}")
    words = np.frombuffer(content, "<u4").astype(np.int64)
    if words[1] != version:
        raise ProgramError(f"program's format must be {version}, not {words[1]}")
    if words[2] != len(words):
        raise ProgramError(f"program must have the {words[2]} words it states, not {len(words)}")
    crc = zlib.crc32(content[:-4])
    if crc != words[-1]:
        raise ProgramError(f"program's CRC-32 must be {words[-1]:#010x}, not {crc:#010x}")
    return words


def _coding_words(shape: EngineShape) -> dict[str, int]:
    """Return how an engine codes activations and weights; terms are 0 for integers."""
    weight = shape.weight
    return {
        "act_bits": shape.act.bits,
        "act_signed": int(shape.act.signed),
        "weight_bits": weight.bits,
        "weight_terms": weight.terms if isinstance(weight, PowerOfTwo) else 0,
    }


def _words(values: Sequence[int]) -> bytes:
    try:
        return np.array(values, np.int64).astype("<i4", casting="unsafe").tobytes()
    except OverflowError:
        raise ProgramError("program's numbers must have 32 bits, not more") from None


def _map_words(m: FeatureMap | None) -> list[int]:
    if m is None:
        return [-1] * 6
    return [m.height, m.width, m.channels, m.address, m.pitch, m.first]


def _window_words(windows: Sequence[tuple[int, int]]) -> list[int]:
    return [len(windows), *(v for window in windows for v in window)]


def _conv_words(c: Conv) -> list[int]:
    q, r = c.requantize, c.residual
    table = np.stack([q.bias, q.multiplier, q.shift], axis=1).ravel()
    if (Int(32).low > table).any() or (table > Int(32).high).any():
        raise ProgramError(f"layer {c.name} must have parameters of 32 bits, not more")
    words = [
        CONV,
        *_map_words(c.source),
        *_map_words(c.target),
        *(getattr(c, name) for name in CONV_FIELDS),
        MODES.index(c.mode),
        c.groups,
        -1 if c.keep is None else c.keep,
        *_window_words(c.windows),
        *(q.zero_point, q.low, q.high),
        *table.tolist(),
    ]
    if r is None:
        return [*words, 0]
    return [
        *words, len(r.own), r.address, r.fraction, r.low, r.high,
        *(np.stack([r.own, r.kept]).astype("<i8").view("<i4").ravel().tolist()),
    ]  # fmt: skip


def _pool_words(p: MaxPool) -> list[int]:
    fields = [getattr(p, name) for name in POOL_FIELDS]
    return [
        MAX_POOL, *_map_words(p.source), *_map_words(p.target), *fields, *_window_words(p.windows)
    ]  # fmt: skip


def _pack(coding: Int | PowerOfTwo, weights: NDArray[np.int64]) -> bytes:
    """Return codes, each as wide as the coding, lowest bits first, in whole words."""
    codes = coding.encode(weights).astype(np.uint16).ravel()
    bits = (codes[:, None] >> np.arange(coding.code_bits, dtype=np.uint16)) & 1
    packed = np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()
    return packed + b"\0" * (-len(packed) % 4)


def _unpack(coding: Int | PowerOfTwo, raw: bytes, count: int) -> NDArray[np.int64]:
    wide = coding.code_bits
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=count * wide, bitorder="little")
    places = 1 << np.arange(wide, dtype=np.int64)
    return coding.decode((bits.reshape(count, wide) @ places).astype(np.uint64))


class _Words:
    """Reads words one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def raw(self, size: int) -> bytes:
        """Return the next bytes."""
        found = self._content[self._at : self._at + size]
        if size < 0 or len(found) < size:
            raise ValueError(f"{size} bytes at {self._at} of {len(self._content)}")
        self._at += size
        return found

    def array(self, count: int, size: int = 4) -> NDArray[np.int64]:
        """Return the next numbers, each of so many bytes."""
        return np.frombuffer(self.raw(size * count), f"<i{size}").astype(np.int64)

    def next(self, count: int) -> list[int]:
        """Return the next words as integers."""
        return self.array(count).tolist()

    def one(self) -> int:
        """Return the next word."""
        return self.next(1)[0]

    def map(self) -> FeatureMap | None:
        """Return the next map."""
        names = "height", "width", "channels", "address", "pitch", "first"
        values = dict(zip(names, self.next(6), strict=True))
        return None if values["height"] < 0 else FeatureMap(**values)

    def windows(self) -> tuple[tuple[int, int], ...]:
        """Return the next windows."""
        pairs = self.array(2 * self.one()).reshape(-1, 2)
        return tuple((y, x) for y, x in pairs.tolist())


def _read(words: _Words) -> dict[str, Any]:
    """Return the members of a program."""
    n = dict(zip(NEEDS, words.next(len(NEEDS)), strict=True))
    weight = (
        PowerOfTwo(n["weight_bits"], n["weight_terms"])
        if n["weight_terms"]
        else Int(n["weight_bits"])
    )
    shape = EngineShape(
        **{k: n[k] for k in ("outputs", "slice_channels", "scalers", *AT_LEAST)},
        act=Int(n["act_bits"], bool(n["act_signed"])),
        weight=weight,
        rounding=ROUNDINGS[n["rounding"]],
    )
    ends = words.map(), words.map()
    zero_points = words.next(2)
    *scales, softmax = struct.unpack("<ddd", words.raw(24))
    layers, name_words, _, _ = words.next(4)
    names = json.loads(words.raw(4 * name_words))
    given = []
    for name in names["layers"]:
        kind, _ = words.next(2)
        given.append((_read_conv if kind == CONV else _read_pool)(words, name))
    if layers != len(given):
        raise ValueError(f"{layers} layers, {len(given)} names")
    made: list[Layer] = []
    for layer in given:
        if isinstance(layer, MaxPool):
            made.append(layer)
            continue
        groups = layer.pop("groups")
        per_window = layer["slices"] if layer["mode"] == "window" else -(-layer["slices"] // TAPS)
        form = groups, len(layer["windows"]) * per_window, shape.lanes, shape.outputs
        count = int(np.prod(form))
        raw = words.raw(-(-count * weight.code_bits // 32) * 4)
        made.append(Conv(**layer, weights=_unpack(weight, raw, count).reshape(form)))
    return {
        "name": names["name"],
        "shape": shape,
        "layers": tuple(made),
        "input": ends[0],
        "output": ends[1],
        "input_shape": tuple(names["input"]),
        "output_shape": tuple(names["output"]),
        "input_coding": Coding(zero_points[0], scales[0]),
        "output_coding": Coding(zero_points[1], scales[1]),
        "softmax": softmax,
    }


def _read_conv(words: _Words, name: str) -> dict[str, Any]:
    source, target = words.map(), words.map()
    fields = dict(zip(CONV_FIELDS, words.next(len(CONV_FIELDS)), strict=True))
    mode, groups, keep = words.next(3)
    windows = words.windows()
    zero_point, low, high = words.next(3)
    bias, multiplier, shift = words.array(3 * fields["channels"]).reshape(-1, 3).T
    residual = None
    if entries := words.one():
        address, fraction, *ends = words.next(4)
        own, kept = words.array(2 * entries, 8).reshape(2, entries)
        residual = Residual(
            address=address, own=own, kept=kept, fraction=fraction, low=ends[0], high=ends[1]
        )
    return {
        "name": name, "source": source, "target": target, **fields, "mode": MODES[mode],
        "groups": groups, "keep": None if keep < 0 else keep, "windows": windows,
        "requantize": Requantize(
            bias=bias.copy(), multiplier=multiplier.copy(), shift=shift.copy(),
            zero_point=zero_point, low=low, high=high,
        ),
        "residual": residual,
    }  # fmt: skip


def _read_pool(words: _Words, name: str) -> MaxPool:
    source, target = words.map(), words.map()
    fields = dict(zip(POOL_FIELDS, words.next(len(POOL_FIELDS)), strict=True))
    if source is None or target is None:
        raise ValueError("a pool without a map")
    return MaxPool(name=name, source=source, target=target, **fields, windows=words.windows())
