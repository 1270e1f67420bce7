"""Sizes of the network engine, and every width and delay that follows from them.

The engine's parts take a `Geometry`; `engine.network` makes the unit's Spec of it.
"""

from dataclasses import dataclass

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2

from mulfree.catalog import KINDS
from mulfree.engine.scaler import ScalerSpec
from mulfree.spec import Spec, SpecError, choice, integer, nested
from mulfree.units.core import CoreSpec

#: Banks of the map memory, and taps of a window.
BANKS = 9
#: Width of a row or column number, two's complement.
PLACE_BITS = 10


@dataclass(frozen=True, kw_only=True)
class Geometry(Spec):
    """Sizes of the network engine."""

    core: CoreSpec = nested(KINDS, "what the products are made of")
    acc_bits: int = integer(24, 8, 32, "width of an accumulator, two's complement")
    chunk: int = integer(128, 4, 1024, "pixels whose accumulators are kept at a time")
    scalers: int = integer(4, 1, 64, "accumulators requantized per clock")
    channels: int = integer(128, 1, 4096, "output channels of the widest layer")
    map_words: int = integer(2048, 4, 65536, "words of each of the nine banks of feature maps")
    keep_words: int = integer(
        4096, 0, 65536, "words of the residual memory, each of `scalers` activations; 0: no sums"
    )
    program: str = choice(
        "memory", ("memory", "stream"), "layers and weights: a memory inside, or a stream"
    )
    program_words: int = integer(8192, 16, 1 << 20, "words of layers and weights")
    left_shift: int = integer(0, 0, 30, "largest left shift, for factors of 1 and more")
    rounding: str = choice(
        "double", ("single", "double"), "roundings on the way, as TFLite's builds"
    )

    def check(self) -> None:
        """Check that slices, outputs and scalers divide each other, and sums fit."""
        core = self.core
        if core.lanes not in (9, 18, 36, 72):
            raise SpecError(f"lanes must be 9, 18, 36 or 72, not {core.lanes}")
        rules = {
            f"scalers must be a multiple of lanes / 9 ({self.slice}), not {self.scalers}": (
                self.scalers % self.slice == 0
            ),
            f"scalers must divide outputs ({core.outputs}), not {self.scalers}": (
                core.outputs % self.scalers == 0
            ),
            f"outputs must be at most {ScalerSpec.MOST_PIECES} for each scaler, not "
            f"{core.outputs} for {self.scalers}": (
                core.outputs <= ScalerSpec.MOST_PIECES * self.scalers
            ),
            f"scalers must be at most 9 slices ({BANKS * self.slice}), not {self.scalers}": (
                self.scalers <= BANKS * self.slice
            ),
            f"act_bits must be at most 8, not {core.act_bits}": core.act_bits <= 8,
            "weights must be loadable, not constant": core.loadable,
            "keep_words must be 0 or at least 2, not 1": self.keep_words != 1,
            f"acc_bits must be at least the dot product's {core.dot_bits}, not {self.acc_bits}": (
                self.acc_bits >= core.dot_bits
            ),
        }
        for sentence, holds in rules.items():
            if not holds:
                raise SpecError(sentence)

    # Activations and slices

    @property
    def slice(self) -> int:
        """Channels of a slice: activations in a word of the map memory."""
        return self.core.lanes // BANKS

    @property
    def word_layout(self) -> data.ArrayLayout:
        """A word of the map memory."""
        return data.ArrayLayout(self.core.act_shape, self.slice)

    @property
    def map_bits(self) -> int:
        """Width of an address in a bank."""
        return ceil_log2(self.map_words)

    @property
    def keep_bits(self) -> int:
        """Width of an address in the residual memory."""
        return ceil_log2(max(self.keep_words, 2))

    @property
    def pieces(self) -> int:
        """Clocks in which the accumulators of one pixel drain."""
        return self.core.outputs // self.scalers

    @property
    def piece_slices(self) -> int:
        """Slices written at a time."""
        return self.scalers // self.slice

    @property
    def rows(self) -> int:
        """Rows of the parameter memory, each for `scalers` channels."""
        groups = -(-self.channels // self.core.outputs)
        return max(groups * self.pieces, 2)

    # Requantization

    @property
    def scaler(self) -> ScalerSpec:
        """What turns an accumulator into an activation."""
        return ScalerSpec(
            acc_bits=self.acc_bits,
            out_bits=self.core.act_bits,
            out_signed=self.core.act_signed,
            left_shift=self.left_shift,
            rounding=self.rounding,
            pieces=self.pieces,
        )

    @property
    def term_bits(self) -> int:
        """Width of an entry of the residual's tables, two's complement."""
        return 3 * self.core.act_bits

    # The program

    @property
    def streamed(self) -> bool:
        """Whether the program comes from outside, word by word."""
        return self.program == "stream"

    @property
    def tile_words(self) -> int:
        """Beats of the core's `weight` stream that make a tile."""
        return self.core.load_beats

    @property
    def core_latency(self) -> int:
        """Edges from activations to dot products."""
        assert self.core.latency is not None
        return self.core.latency

    @property
    def load_bits(self) -> int:
        """Width of one beat of the core's `weight` stream."""
        return Shape.cast(self.core.load_shape).width

    @property
    def word_bits(self) -> int:
        """Width of a word of the program."""
        return max(self.load_bits, 32)

    @property
    def program_bits(self) -> int:
        """Width of an address in the program."""
        return ceil_log2(self.program_words)

    @property
    def tile_layout(self) -> data.StructLayout:
        """Where a tile's activations lie, relative to the pixel, and how long its weights serve.

        `y`, `x`: rows and columns from the pixel's own place to the window's first tap; `ry`,
        `rx`: the same modulo 3; `address`: words from the pixel's own to the first tap's; `rotate`:
        the first slice modulo 9; `last`: the next tile has weights of its own.
        """
        return data.StructLayout(
            {
                "y": signed(PLACE_BITS),
                "x": signed(PLACE_BITS),
                "ry": 2,
                "rx": 2,
                "address": self.map_bits,
                "rotate": 4,
                "last": 1,
            }
        )

    @property
    def row_layout(self) -> data.StructLayout:
        """Parameters of `scalers` channels."""
        return data.StructLayout(
            {
                f"{name}_{lane}": shape
                for lane in range(self.scalers)
                for name, shape in self.scaler.parameters.items()
            }
        )

    @property
    def term_layout(self) -> data.StructLayout:
        """What an activation of the layer and one of the kept map stand for in their sum."""
        term = signed(self.term_bits)
        return data.StructLayout({"own": term, "kept": term})

    @property
    def term_count(self) -> int:
        """Entries of the residual's tables."""
        return 1 << self.core.act_bits

    @property
    def layer_layout(self) -> data.StructLayout:
        """A layer's descriptor; docs/units/network.md says what each field means."""
        act, words = self.core.act_shape, unsigned(self.map_bits)
        return data.StructLayout(
            {
                "last": 1,
                "point": 1,
                "maximum": 1,
                "weights": 1,
                "keep": 1,
                "add": 1,
                "groups": 12,
                "tiles": 16,
                "rows": ceil_log2(self.rows + 1),
                # The source map.
                "height": signed(PLACE_BITS),
                "width": signed(PLACE_BITS),
                "pitch_y": words,
                "pitch_x": words,
                "pad": act,
                "taps": 6,
                # The walk over it: the first pixel's place, and the way to the next.
                "y": signed(PLACE_BITS),
                "x": signed(PLACE_BITS),
                "ry": 2,
                "rx": 2,
                "address_y": words,
                "address_x": words,
                "stride_y": 4,
                "stride_x": 4,
                "step_ry": 2,
                "step_rx": 2,
                "step_y": words,
                "step_x": words,
                # The target map.
                "columns": PLACE_BITS - 1,
                "pixels": 2 * (PLACE_BITS - 1),
                "to_address": words,
                "to_rotate": 4,
                "to_pitch_y": words,
                "to_pitch_x": words,
                "to_slices": 10,
                "group_slices": ceil_log2(self.core.outputs // self.slice + 1),
                "group_rotate": 4,
                "pieces": ceil_log2(self.pieces + 1),
                # The residual memory.
                "keep_address": self.keep_bits,
                "kept_address": self.keep_bits,
                # Requantization.
                "zero": act,
                "low": act,
                "high": act,
                "sum_low": act,
                "sum_high": act,
            }
        )

    def words(self, layout: data.StructLayout) -> int:
        """Return how many words of the program a record takes."""
        return -(-layout.size // self.word_bits)
