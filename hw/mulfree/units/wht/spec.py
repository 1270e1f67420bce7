"""Parameters of the Walsh-Hadamard transforms."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.hdl import Shape, Value, signed, unsigned
from amaranth.lib import data

from mulfree.arith.rounding import saturate, shift_half_up
from mulfree.formats import Int
from mulfree.spec import Spec, SpecError, choice, flag, integer

FORMS = ("parallel", "streaming", "folded", "serial")


@dataclass(frozen=True, kw_only=True)
class TransformSpec(Spec):
    """What one- and two-dimensional transforms have in common: coding, form, rounding.

    A subclass says how long a vector is before and after padding.
    """

    bits: int = integer(8, 1, 32, "width of a sample")
    signed: bool = flag(True, "samples are two's complement")
    form: str = choice("parallel", FORMS, "how the butterflies are laid out in space and time")
    samples_per_cycle: int = integer(
        0, 1, 4096, "samples side by side on the streams, a power of two; 0: 1", unset=0
    )
    pipeline: int = integer(
        1, 0, 12, "butterfly levels from register to register; 0: combinational"
    )
    direction: str = choice(
        "forward", ("forward", "inverse"), "inverse also divides by the number of points"
    )
    shift: int = integer(
        -1, 0, 24, "rounding shift at the end; -1: none forward, log2 points inverse", unset=-1
    )
    out_bits: int = integer(
        0, 1, 48, "width of a result, saturated to it; 0: wide enough for any", unset=0
    )

    @property
    def size(self) -> int:
        """Points of one transform, over all dimensions."""
        raise NotImplementedError

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Samples without and with padding of each dimension, in units of the one inside it."""
        raise NotImplementedError

    def check(self) -> None:
        """Check what the forms allow, and that saturation has something to do."""
        lanes = self.lanes
        if self.form == "parallel":
            if self.samples_per_cycle:
                raise SpecError(
                    "samples_per_cycle must be left out in the parallel form, "
                    f"not {self.samples_per_cycle}"
                )
            if self.size > 256:
                raise SpecError(f"points must be at most 256 in the parallel form, not {self.size}")
        else:
            most = self.size // 2 if self.form == "folded" else self.size
            if lanes & (lanes - 1) or lanes > most:
                raise SpecError(
                    f"samples_per_cycle must be a power of two of at most {most}, not {lanes}"
                )
            inner, total = self.runs[0]
            if inner % lanes or total % lanes:
                raise SpecError(f"samples_per_cycle must divide {inner} samples, not be {lanes}")
        if self.pipeline != 1 and self.form in ("folded", "serial"):
            raise SpecError(f"pipeline must be 1 in the {self.form} form, not {self.pipeline}")
        if self.pipeline == 0 and self.form == "streaming":
            raise SpecError("pipeline must be at least 1 in the streaming form, not 0")
        if self.out_bits:
            if self.form == "serial":
                raise SpecError(
                    f"out_bits must be left out in the serial form, not {self.out_bits}"
                )
            if self.out_bits > self.exact_bits:
                raise SpecError(
                    f"out_bits must be at most {self.exact_bits}, the width of any result, "
                    f"not {self.out_bits}"
                )

    @property
    def lanes(self) -> int:
        """Samples side by side: all of them in the parallel form."""
        return self.padded if self.form == "parallel" else self.samples_per_cycle or 1

    @property
    def levels(self) -> int:
        """Butterfly levels: log2 of the points."""
        return self.size.bit_length() - 1

    @property
    def beats(self) -> int:
        """Beats of one transform on the streams."""
        return self.size // self.lanes

    @property
    def sample_format(self) -> Int:
        """How a sample is coded."""
        return Int(self.bits, self.signed)

    @property
    def sample_shape(self) -> Shape:
        """Amaranth shape of a sample."""
        return signed(self.bits) if self.signed else unsigned(self.bits)

    @property
    def signed_bits(self) -> int:
        """Width of a sample as a signed number."""
        return self.bits + (not self.signed)

    @property
    def sum_bits(self) -> int:
        """Width of an exact sum, before any rounding: one bit more each level."""
        return self.signed_bits + self.levels

    @property
    def round_shift(self) -> int:
        """Bits dropped at the end, rounding half up."""
        if self.shift >= 0:
            return self.shift
        return self.levels if self.direction == "inverse" else 0

    @property
    def exact_bits(self) -> int:
        """Width that holds every rounded result; nothing saturates at it."""
        half = (1 << self.round_shift) >> 1
        ends = [(end + half) >> self.round_shift for end in self._sums()]
        return max((v if v >= 0 else ~v).bit_length() + 1 for v in ends)

    def _sums(self) -> tuple[int, int]:
        """Smallest and largest exact sum: a row of H has as many minus as plus signs, or none."""
        low, high, points = self.sample_format.low, self.sample_format.high, self.size
        swing = points // 2 * (high - low)
        return min(points * low, -swing), max(points * high, swing)

    @property
    def result_bits(self) -> int:
        """Width of a result."""
        return self.out_bits or self.exact_bits

    @property
    def samples(self) -> int:
        """Samples of a vector without padding."""
        return math.prod(real for real, _ in self.runs)

    @property
    def padded(self) -> int:
        """Samples of a vector with padding, a multiple of `size`."""
        return math.prod(total for _, total in self.runs)

    @property
    def in_length(self) -> int:
        """Samples of a vector on the way in: an inverse takes padded ones."""
        return self.padded if self.direction == "inverse" else self.samples

    @property
    def out_length(self) -> int:
        """Results of a vector: an inverse crops the padding."""
        return self.samples if self.direction == "inverse" else self.padded

    def finish(self, value: Value) -> Value:
        """Return an exact sum rounded and saturated to a result."""
        value = shift_half_up(value, self.round_shift)
        if self.out_bits:
            return saturate(value, signed(self.out_bits))
        return value[: self.result_bits].as_signed()

    @property
    def latency(self) -> int | None:
        """Edges from samples to results in the parallel form, else None."""
        if self.form != "parallel":
            return None
        return -(-self.levels // self.pipeline) if self.pipeline else 0

    @property
    def sample_layout(self) -> Any:
        """Layout of the samples side by side on a stream; bits of them in the serial form."""
        return data.ArrayLayout(
            unsigned(1) if self.form == "serial" else self.sample_shape, self.lanes
        )

    @property
    def result_layout(self) -> Any:
        """Layout of the results side by side on a stream; bits of them in the serial form."""
        return data.ArrayLayout(
            unsigned(1) if self.form == "serial" else signed(self.result_bits), self.lanes
        )

    def component(self) -> Any:
        """Build the transform in its form."""
        # The forms are imported when one is built: they import this module.
        from mulfree.units.wht import forms

        return forms.build(self)


@dataclass(frozen=True, kw_only=True)
class WHTSpec(TransformSpec):
    """A one-dimensional Walsh-Hadamard transform, whole or in blocks.

    With `length`, a vector of any length is cut into blocks of `points`, the last one padded with
    zeros, and each block is transformed by itself (the block transform BWHT).
    """

    unit: ClassVar[str] = "wht"

    points: int = integer(16, 2, 4096, "points of the transform, a power of two")
    length: int = integer(
        0, 1, 65536, "samples of a vector, cut into blocks of points; 0: one whole block", unset=0
    )

    def check(self) -> None:
        """Check that the points are a power of two."""
        if self.points & (self.points - 1):
            raise SpecError(f"points must be a power of two, not {self.points}")
        super().check()

    @property
    def size(self) -> int:
        """The points."""
        return self.points

    @property
    def runs(self) -> list[tuple[int, int]]:
        """One dimension, padded to whole blocks."""
        length = self.length or self.points
        return [(length, -(-length // self.points) * self.points)]


@dataclass(frozen=True, kw_only=True)
class WHT2DSpec(TransformSpec):
    """A two-dimensional Walsh-Hadamard transform of a map, by rows and columns.

    The map arrives row by row. Each side is padded with zeros to a power of two. In natural order
    the transform of rows and columns is the one-dimensional transform of the row-major vector
    (``H_R ⊗ H_C = H_RC``), so that nothing is ever transposed.
    """

    unit: ClassVar[str] = "wht2d"

    height: int = integer(8, 1, 2048, "rows of the map, padded to a power of two")
    width: int = integer(8, 1, 2048, "columns of the map, padded to a power of two")

    def check(self) -> None:
        """Check the size of the padded map."""
        if not 2 <= self.size <= 4096:
            raise SpecError(f"points must be between 2 and 4096 in all, not {self.size}")
        super().check()

    @property
    def rows(self) -> int:
        """Rows of the padded map."""
        return 1 << (self.height - 1).bit_length()

    @property
    def columns(self) -> int:
        """Columns of the padded map."""
        return 1 << (self.width - 1).bit_length()

    @property
    def size(self) -> int:
        """Samples of the padded map."""
        return self.rows * self.columns

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Columns inside rows; whole rows count as one dimension."""
        if self.width == self.columns:
            return [(self.height * self.columns, self.size)]
        return [(self.width, self.columns), (self.height, self.rows)]
