"""The Program: what a board runs. Its binary form (``.mfp``) is what the program memory holds.

Little-endian words of 32 bits:

======= ==========================================================================================
word    content
======= ==========================================================================================
0       ``MFP1`` in ASCII
1       format version
2       words in all, the CRC included
3       `engine` register that is needed, `kind` 0: any kind that computes the same
4       `shape` register that is needed
5       `limits` register that is needed: slots are the batch, then channels and left shift
6       words of data memory that are needed
7       number of layers
8       width of the input, and of the output in the upper half
9       word address of the first input vector, and words from one to the next in the upper half
10      the same of the output
11      zero point of the input, and of the output in the upper half
12, 13  scale of the input, double precision
14, 15  scale of the output
16 on   layer descriptors of 8 words each, then weights and parameters
last    CRC-32 (IEEE 802.3) of all words before
======= ==========================================================================================

Layer descriptor, type 1 (fully connected):

======= ==========================================================================================
word    content
======= ==========================================================================================
0       type; size of the descriptor in words in the upper half
1       groups of outputs; tiles along the inputs in the upper half
2       word address of the first input vector; words from one to the next in the upper half
3       the same of its output
4       word address of the weights
5       words of weights
6       word address of the parameters; output channels in the upper half
7       zero point, smallest and largest output, 8 bits each
======= ==========================================================================================

Weights: the tiles of a group of outputs one after the other, a byte a weight, the outputs of lane 0
first. Parameters: bias, multiplier and shift of each channel, a word each. Vectors of activations:
a byte each.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.engine.program import Coding, ProgramError, whole_words
from mulfree.formats import Int, PowerOfTwo
from mulfree.soc.registers import register_map

MAGIC = int.from_bytes(b"MFP1", "little")
FORMAT = 1
HEADER_WORDS = 16
LAYER_WORDS = 8
DENSE = 1


@dataclass(frozen=True)
class Dense:
    """A fully connected layer.

    Members
    -------
    weights : (outputs, inputs), int64
        The integers that the codes stand for.
    bias, multiplier, shift : (outputs,), int64
        As of the requantizer.
    zero_point, low, high : int
        Added to the outputs, and their range.
    """

    weights: NDArray[np.int64]
    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class Target:
    """The engine that a program is laid out for: words as the registers of that name read."""

    engine: int
    shape: int
    limits: int

    def describe(self) -> str:
        """Return it in words."""
        m = register_map()
        e, s, n = (
            r.unpack(w)
            for r, w in ((m.engine, self.engine), (m.shape, self.shape), (m.limits, self.limits))
        )
        coding = {v: k for k, v in m.engine.fields["coding"].encoding.items()}
        return (
            f"{s['outputs']} outputs × {s['lanes']} lanes, "
            f"{e['act_bits']}-bit {'signed' if e['act_signed'] else 'unsigned'} activations, "
            f"{e['weight_bits']}-bit {coding.get(e['coding'], '?').replace('_', ' ')} weights, "
            f"{e['acc_bits']}-bit accumulators, "
            f"{'double' if e['double_rounding'] else 'single'} rounding, "
            f"{n['slots']} slots, {n['channels']} channels, left shift {n['left_shift']}"
            f"{', runs networks' if e['runs'] else ''}"
        )

    def __getattr__(self, name: str) -> int:
        m = register_map()
        for register, word in (
            (m.engine, self.__dict__["engine"]),
            (m.shape, self.__dict__["shape"]),
            (m.limits, self.__dict__["limits"]),
        ):
            if name in register.fields:
                return register.fields[name].of(word)
        raise AttributeError(name)

    @property
    def act(self) -> Int:
        """How an activation is coded."""
        return Int(self.act_bits, bool(self.act_signed))

    @property
    def weight(self) -> Int | PowerOfTwo:
        """How a weight is coded."""
        names = {v: k for k, v in register_map().engine.fields["coding"].encoding.items()}
        match names[self.coding]:
            case "power_of_two":
                return PowerOfTwo(self.weight_bits)
            case "two_powers":
                return PowerOfTwo(self.weight_bits, 2)
        return Int(self.weight_bits)


@dataclass(frozen=True)
class Program:
    """Fully connected layers, laid out for an engine."""

    target: Target
    layers: Sequence[Dense]
    input: Coding
    output: Coding

    @property
    def batch(self) -> int:
        """Images of one run at the most."""
        return self.target.slots

    @property
    def widths(self) -> list[int]:
        """Width of the input and of every layer's output."""
        return [self.layers[0].weights.shape[1], *(len(x.weights) for x in self.layers)]

    @property
    def strides(self) -> list[int]:
        """Words from one vector to the next, of the input and of every layer's output.

        A vector has room for whole groups of outputs where it is written, and for whole tiles where
        it is read.
        """
        outputs, lanes = self.target.outputs, self.target.lanes
        found = []
        for place, width in enumerate(self.widths):
            written = -(-width // outputs) * outputs if place else width
            read = -(-width // lanes) * lanes if place < len(self.layers) else width
            found.append(-(-max(written, read) // 4))
        return found

    @property
    def bases(self) -> list[int]:
        """Word address of the first vector, of the input and of every layer's output.

        What is read and what is written lie at opposite ends, in turn; so a program needs room for
        its two largest neighbours. The input stays whole where there is room below.
        """
        total = self.data_words
        return [
            0 if place % 2 == 0 else total - stride * self.batch
            for place, stride in enumerate(self.strides)
        ]

    @property
    def data_words(self) -> int:
        """Words of data memory that are needed."""
        s = self.strides
        return max(a + b for a, b in pairwise(s)) * self.batch

    def check_runs_on(self, engine: Target, program_words: int, data_words: int) -> None:
        """Check that an engine is what this program is laid out for, and has room for it.

        Raises
        ------
        ProgramError
            With what is needed and what is there.
        """
        needed = self.target
        kind = register_map().engine.fields["kind"].mask
        same = needed.engine == engine.engine & ~kind and needed.shape == engine.shape
        room = all(
            getattr(needed, name) <= getattr(engine, name) for name in register_map().limits.fields
        )
        if not (same and room):
            raise ProgramError(
                f"program needs {needed.describe()}, but the engine has {engine.describe()}"
            )
        for what, own, there in (
            ("program", len(self.to_words()), program_words),
            ("data", self.data_words, data_words),
        ):
            if own > there:
                raise ProgramError(
                    f"program needs {own} words of {what} memory, but the engine has {there}"
                )

    def to_words(self) -> NDArray[np.uint32]:
        """Return the binary form, words."""
        address = HEADER_WORDS + LAYER_WORDS * len(self.layers)
        descriptors: list[int] = []
        images: list[NDArray[np.uint32]] = []
        bases, strides = self.bases, self.strides
        outputs, lanes = self.target.outputs, self.target.lanes
        for place, layer in enumerate(self.layers):
            rows, columns = (
                -(-n // of) for n, of in zip(layer.weights.shape, (outputs, lanes), strict=True)
            )
            padded = np.zeros((rows * outputs, columns * lanes), np.int64)
            padded[: layer.weights.shape[0], : layer.weights.shape[1]] = layer.weights
            tiles = padded.reshape(rows, outputs, columns, lanes).transpose(0, 2, 3, 1)
            codes = self.target.weight.encode(tiles)
            weights = codes.astype(np.uint8).ravel().view("<u4")
            table = np.stack([layer.bias, layer.multiplier, layer.shift], axis=1)
            parameters = (table & 0xFFFFFFFF).astype("<u4").ravel()
            descriptors += [
                DENSE | LAYER_WORDS << 16,
                rows | columns << 16,
                bases[place] | strides[place] << 16,
                bases[place + 1] | strides[place + 1] << 16,
                address,
                len(weights),
                (address + len(weights)) | len(layer.bias) << 16,
                (layer.zero_point & 255) | (layer.low & 255) << 8 | (layer.high & 255) << 16,
            ]
            images += [weights, parameters]
            address += len(weights) + len(parameters)
        if address + 1 > register_map().program.words:
            raise ProgramError(
                f"program must be at most {register_map().program.words} words, not {address + 1}"
            )
        header = [
            MAGIC,
            FORMAT,
            address + 1,
            self.target.engine,
            self.target.shape,
            self.target.limits,
            self.data_words,
            len(self.layers),
            self.widths[0] | self.widths[-1] << 16,
            bases[0] | strides[0] << 16,
            bases[-1] | strides[-1] << 16,
            (self.input.zero_point & 0xFFFF) | (self.output.zero_point & 0xFFFF) << 16,
            *struct.unpack("<4I", struct.pack("<dd", self.input.scale, self.output.scale)),
        ]
        body = np.concatenate([np.array([*header, *descriptors], "<u4"), *images])
        return np.append(body, np.uint32(zlib.crc32(body.tobytes()))).astype("<u4")

    def to_bytes(self) -> bytes:
        """Return the binary form."""
        return self.to_words().tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read the binary form.

        Raises
        ------
        ProgramError
            It is not a program, damaged, or of another format version.
        """
        words = whole_words(content, MAGIC.to_bytes(4, "little"), FORMAT, HEADER_WORDS)
        target = Target(*(int(w) for w in words[3:6]))
        width = int(words[8] & 0xFFFF)
        layers = []
        at = HEADER_WORDS
        for _ in range(int(words[7])):
            layer = _read_layer(target, words, at, width)
            layers.append(layer)
            width = len(layer.weights)
            at += int(words[at] >> 16)
        zero_points = struct.unpack_from("<hh", content, 4 * 11)
        scales = struct.unpack_from("<dd", content, 4 * 12)
        codings = (Coding(*pair) for pair in zip(zero_points, scales, strict=True))
        program = cls(target, layers, *codings)
        # The layout follows from the layers alone: a file that says otherwise is not one of ours.
        if not layers or program.to_bytes() != content:
            raise ProgramError("program's layout must follow from its layers, not differ from them")
        return program

    def pack(self, act: ArrayLike) -> NDArray[np.uint32]:
        """Return input vectors, shape (images, inputs), as the words that the data memory holds."""
        act = self.target.act.check(act, "input")
        if act.ndim != 2 or act.shape[1] != self.widths[0]:
            raise ProgramError(f"input must have shape (images, {self.widths[0]}), not {act.shape}")
        padded = np.zeros((len(act), 4 * self.strides[0]), np.uint8)
        padded[:, : act.shape[1]] = act & 255
        return padded.reshape(-1).view("<u4")

    def unpack(self, words: ArrayLike, images: int) -> NDArray[np.int64]:
        """Return output vectors, shape (images, outputs), from the data memory's words."""
        raw = np.asarray(words, "<u4").view(np.uint8).reshape(images, -1)[:, : self.widths[-1]]
        return self.target.act.decode(raw.astype(np.uint64))

    def encode(self, real: ArrayLike) -> NDArray[np.int64]:
        """Return the codes nearest to real inputs."""
        codes = np.rint(np.asarray(real, np.float64) / self.input.scale) + self.input.zero_point
        return np.clip(codes, self.target.act.low, self.target.act.high).astype(np.int64)

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Return what output codes stand for."""
        return self.output.scale * (np.asarray(codes, np.float64) - self.output.zero_point)


def _read_layer(target: Target, words: NDArray[np.int64], at: int, width: int) -> Dense:
    d = [int(w) for w in words[at : at + LAYER_WORDS]]
    if len(d) < LAYER_WORDS or d[0] != DENSE | LAYER_WORDS << 16:
        raise ProgramError(
            f"layer must be of type {DENSE}, not {d[0] & 0xFFFF if d else 'missing'}"
        )
    rows, columns = d[1] & 0xFFFF, d[1] >> 16
    at, channels = d[6] & 0xFFFF, d[6] >> 16
    shape = rows, columns, target.lanes, target.outputs
    tiles = words[d[4] : d[4] + d[5]].astype("<u4").view(np.uint8)
    parameters = words[at : at + 3 * channels]
    if tiles.size != np.prod(shape) or parameters.size != 3 * channels:
        raise ProgramError("layer's weights and parameters must lie within the program, not beyond")
    matrix = tiles.reshape(shape).transpose(0, 3, 1, 2)
    matrix = matrix.reshape(rows * target.outputs, columns * target.lanes)[:channels, :width]
    bias, multiplier, shift = parameters.reshape(channels, 3).T
    decode = target.act.decode
    zero_point, low, high = (int(decode(np.uint64((d[7] >> s) & 255))) for s in (0, 8, 16))
    return Dense(
        target.weight.decode(matrix.astype(np.uint64)),
        Int(32).decode(bias.astype(np.uint64)),
        multiplier,
        Int(32).decode(shift.astype(np.uint64)),
        zero_point,
        low,
        high,
    )
