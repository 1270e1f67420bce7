"""What a host writes to a network engine's windows and reads there, as words of 32 bits.

Board and host form the same check sums: every word that crosses a window counts as its number in
the window, 32 bits, and then the word itself, so nothing lost, doubled, damaged or misdirected goes
unseen.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.engine import descriptors
from mulfree.engine.layers import TAPS, FeatureMap
from mulfree.engine.network import NetworkSpec
from mulfree.engine.program import Program

#: Words of the data window from one bank of feature maps to the next.
BANK_WORDS = 16384


@dataclass(frozen=True)
class Words:
    """Successive words of a window, from the word `offset` on."""

    offset: int
    words: tuple[int, ...]

    def parts(self, most: int) -> Iterator["Words"]:
        """Yield them, so many at a time at the most."""
        for start in range(0, len(self.words), most):
            yield Words(self.offset + start, self.words[start : start + most])


def pieces_of(bits: int) -> int:
    """Return the words of 32 bits in a word of so many."""
    return -(-bits // 32)


def program_words(engine: NetworkSpec, program: Program) -> Words:
    """Return what the program window is given.

    Raises
    ------
    SpecError
        The program does not fit the engine.
    """
    count = pieces_of(engine.word_bits)
    image = engine.program_image(program)
    words = tuple(word >> (32 * i) & 0xFFFFFFFF for word in image for i in range(count))
    return Words(0, words)


def image_size(engine: NetworkSpec, program: Program) -> int:
    """Return how many of the engine's words a program's image has, without making it."""
    words = engine.words
    total = 0
    for layer in program.layers:
        work = descriptors.work(engine, layer)
        total += words(engine.layer_layout)
        total += work.rows * words(engine.row_layout) + work.terms * words(engine.term_layout)
        for loads in work.loads:
            total += len(loads) * words(engine.tile_layout) + sum(loads) * engine.tile_words
    return total


def input_words(program: Program, codes: ArrayLike) -> list[Words]:
    """Return what the data window is given for one input."""
    memory = program.shape.act.encode(program.place(codes))
    packed = (memory << _places(program)).sum(axis=-1, dtype=np.uint64)
    # A word of the engine is one here, or two, the low half first.
    pieces = packed[..., None].view("<u4")[..., : _pieces(program)]
    return [
        Words(offset, tuple(pieces[bank, first : first + many].ravel().tolist()))
        for bank, first, many, offset in _runs(program, program.input)
    ]


def output_places(program: Program) -> list[Words]:
    """Return what is to be read of the data window, its words 0."""
    count = _pieces(program)
    return [
        Words(offset, (0,) * (count * many))
        for _, _, many, offset in _runs(program, program.output)
    ]


def output_codes(program: Program, found: Sequence[Words]) -> NDArray[np.int64]:
    """Return the output, shape `output_shape`, of what was read at `output_places`."""
    shape, count = program.shape, _pieces(program)
    memory = np.zeros((TAPS, program.map_words, shape.slice_channels), np.int64)
    for run, (bank, first, many, _) in zip(found, _runs(program, program.output), strict=True):
        words = np.zeros((many, 2), "<u4")
        words[:, :count] = np.reshape(run.words, (many, count))
        packed = words.view("<u8")
        memory[bank, first : first + many] = shape.act.decode(packed >> _places(program))
    return program.take(memory)


def crc(runs: Iterable[Words], before: int = 0) -> int:
    """Return the CRC-32 of words at their places, as the board forms it, behind those `before`."""
    for run in runs:
        counted = np.zeros(len(run.words), [("offset", "<u4"), ("word", "<u4")])
        counted["offset"] = np.arange(run.offset, run.offset + len(run.words))
        counted["word"] = run.words
        before = zlib.crc32(counted.tobytes(), before)
    return before


def _pieces(program: Program) -> int:
    """Return the words of 32 bits in a word of the map memory."""
    return pieces_of(program.shape.slice_channels * program.shape.act.bits)


def _places(program: Program) -> NDArray[np.uint64]:
    """Return the lowest bit of each channel in a word of the map memory."""
    shape = program.shape
    return np.arange(shape.slice_channels, dtype=np.uint64) * np.uint64(shape.act.bits)


def _runs(program: Program, m: FeatureMap) -> list[tuple[int, int, int, int]]:
    """Return the stretch of each bank that a map has: bank, first word, words, place."""
    (bank, word), _ = program.places(m)
    count, found = _pieces(program), []
    for b in np.unique(bank).tolist():
        first, last = int(word[bank == b].min()), int(word[bank == b].max())
        found.append((b, first, last - first + 1, b * BANK_WORDS + first * count))
    return found
