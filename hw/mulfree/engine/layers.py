"""A network as the engine runs it: feature maps in memory, layers, their weights and parameters.

Everything here is data, made by a compiler and read by the Program's binary form, the cycle count,
the golden engine and the hardware's bench. C is `EngineShape.slice_channels`, O is
`EngineShape.outputs`, L = 9 · C is `EngineShape.lanes`.

**A feature map** of height × width pixels has its channels cut into slices of C; a word of the map
memory is one slice of one pixel, C activations, the lowest channel in the low bits. The memory has
nine banks. Slice s of pixel (y, x) lies in bank ``(3 · (y mod 3) + x mod 3 + first + s) mod 9`` at
address ``address + (y // 3 · ceil(width / 3) + x // 3) · pitch + first + s``. So one clock reads,
without conflict, either the 3 × 3 window of one slice or nine successive slices of one pixel.
Channels of the last slice beyond the map's own hold anything; weights are zero there.

**Lanes.** ``lane = tap · C + channel``, where a tap is ``3 · dy + dx`` of the window (mode
`window`), or the slice's offset from the beat's first (mode `point`). Taps outside of the map read
`fill`.

**Order.** For each group of O output channels, for each chunk of at most `EngineShape.chunk` output
pixels in raster order, for each beat ``window · beats_per_window + beat``: one tile of weights,
then every pixel of the chunk. A chunk then drains pixel by pixel, `EngineShape.scalers` channels a
clock, lowest first; a slice that the target map does not have is not written.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mulfree.formats import Int, PowerOfTwo
from mulfree.spec import SpecError

#: Taps of a beat: banks of the map memory.
TAPS = 9

Array = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class EngineShape:
    """What a compiler must know of an engine.

    Members
    -------
    outputs : int
        O, output channels computed side by side.
    slice_channels : int
        C, channels of a word of the map memory.
    scalers : int
        Accumulators requantized a clock: a multiple of C that divides O.
    chunk : int
        Output pixels whose accumulators are kept at a time.
    act, weight, acc_bits
        How activations and weights are coded; width of an accumulator, which wraps around.
    left_shift : int
        Largest left shift of the requantizer.
    rounding : str
        ``single`` or ``double``, as of `RequantizerSpec`. TFLite's 8-bit reference kernels round
        twice (all three golden images of MLPerf Tiny's ResNet-8 need it), so `double` is the
        default; what the 64-bit sums of int16 activations become is rounded once.
    channels : int
        Output channels of the widest layer that the parameter memory holds.
    map_words, keep_words, program_words : int
        Room: words of each bank of the map memory; words of the residual memory, `scalers`
        activations each; words of 32 bits for what a Program file holds, 0 where the engine's Spec
        knows better.
    """

    outputs: int = 16
    slice_channels: int = 4
    scalers: int = 4
    chunk: int = 128
    act: Int = field(default=Int(8))
    weight: Int | PowerOfTwo = field(default=Int(8))
    acc_bits: int = 24
    left_shift: int = 0
    rounding: str = "double"
    channels: int = 256
    map_words: int = 2048
    keep_words: int = 8192
    program_words: int = 1 << 16

    def __post_init__(self) -> None:
        """Check what the layout of memories rests on."""
        if self.scalers % self.slice_channels:
            raise SpecError(
                f"scalers must be a multiple of slice_channels ({self.slice_channels}), "
                f"not {self.scalers}"
            )
        if self.outputs % self.scalers:
            raise SpecError(
                f"outputs must be a multiple of scalers ({self.scalers}), not {self.outputs}"
            )

    @classmethod
    def of(cls, spec: Any) -> "EngineShape":
        """Return the shape of a network engine's Spec."""
        core = spec.core
        return cls(
            outputs=core.outputs,
            slice_channels=core.lanes // TAPS,
            scalers=spec.scalers,
            chunk=spec.chunk,
            act=core.act_format,
            weight=core.weight_format,
            acc_bits=spec.acc_bits,
            left_shift=spec.left_shift,
            rounding=spec.rounding,
            channels=spec.channels,
            map_words=spec.map_words,
            keep_words=spec.keep_words,
            program_words=0,  # `program_image` of the Spec says what fits
        )

    @property
    def lanes(self) -> int:
        """L, activations of a beat."""
        return TAPS * self.slice_channels

    def slices(self, channels: int) -> int:
        """Slices that so many channels take."""
        return -(-channels // self.slice_channels)

    def groups(self, channels: int) -> int:
        """Groups of outputs that so many channels take."""
        return -(-channels // self.outputs)


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """Where activations lie in the map memory.

    Members
    -------
    height, width, channels : int
    address : int
        First word, the same in every bank.
    pitch : int
        Slices from one cell of 3 × 3 pixels to the next: all that is stored there.
    first : int
        This map's first slice in a cell; not 0 for a part of a concatenation.
    """

    height: int
    width: int
    channels: int
    address: int
    pitch: int
    first: int = 0

    def __post_init__(self) -> None:
        """Check that there is a map."""
        for name in ("height", "width", "channels", "pitch"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("address", "first"):
            if getattr(self, name) < 0:
                raise SpecError(f"{name} must be at least 0, not {getattr(self, name)}")

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def cells(self) -> int:
        """Blocks of 3 × 3 pixels, those cut at the edges included."""
        return -(-self.height // 3) * -(-self.width // 3)

    @property
    def words(self) -> int:
        """Words that the map, with all that shares its cells, takes in each bank."""
        return self.cells * self.pitch

    def bank(self, y: Array, x: Array, s: Array) -> Array:
        """Return the bank of slice `s` of pixel (y, x)."""
        return (3 * (y % 3) + x % 3 + self.first + s) % TAPS

    def word(self, y: Array, x: Array, s: Array) -> Array:
        """Return its address in the bank."""
        cell = y // 3 * -(-self.width // 3) + x // 3
        return self.address + cell * self.pitch + self.first + s


@dataclass(frozen=True, kw_only=True)
class Requantize:
    """From accumulators to activations, as `mulfree.engine.requantizer` does it.

    ``low ≤ zero_point + round((acc + bias) · multiplier / 2^31 · 2^shift) ≤ high``

    Members
    -------
    bias, multiplier, shift : (channels,), int64
        The bias holds what the input's zero point adds. A multiplier has its top bit (2^30) set
        where there is a left shift, and else any value below 2^31; shift from -31 to the engine's
        `left_shift`, positive to the left.
    zero_point, low, high : int
        In the activations' range.
    """

    bias: Array
    multiplier: Array
    shift: Array
    zero_point: int
    low: int
    high: int

    def __post_init__(self) -> None:
        """Check that the channels agree."""
        shapes = {a.shape for a in (self.bias, self.multiplier, self.shift)}
        if len(shapes) != 1 or self.bias.ndim != 1:
            raise SpecError(
                f"bias, multiplier and shift must have one shape (channels,), not {shapes}"
            )


@dataclass(frozen=True, kw_only=True)
class Residual:
    """A kept activation added to each output (TFLite's ADD), after the convolution's requantizer.

    ``clip((own[x] + kept[r]) >> fraction, low, high)`` for the requantized output x and the kept
    activation r.

    Members
    -------
    address : int
        First word of the kept activations in the residual memory.
    own, kept : (2^act bits,), int64
        What an activation stands for in the sum, rounding and zero point included; the entry of a
        value is at its bit pattern. The hardware's entries have three times the bits of an
        activation, two's complement.
    fraction : int
        As many bits as an activation has, in hardware.
    low, high : int
    """

    address: int
    own: Array
    kept: Array
    fraction: int
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolution; also a dense layer (the kernel is the whole map), a depthwise convolution and
    an average pool (block-diagonal weights), and a copy (weights 2, factor 1/2).

    Output pixel (y, x) in window (oy, ox) reads the input from pixel
    ``(y · stride_y + origin_y + oy, x · stride_x + origin_x + ox)`` on.

    Members
    -------
    name : str
        Of the source model's tensor, for reports.
    source : FeatureMap
    target : FeatureMap or None
        None when only `keep` wants the outputs; then `output_shape` still holds.
    height, width, channels : int
        Of the output.
    mode : str
        ``window`` or ``point``.
    stride_y, stride_x, origin_y, origin_x : int
        The origin is minus the padding at the top and left.
    windows : ((oy, ox), …)
    slice_step : int
        Group g of outputs starts at input slice ``g · slice_step``.
    slices : int
        Input slices that a group reads.
    fill : int
        What taps outside of the map read: the input's zero point.
    weights : (groups, beats, L, O), int64
        The integers that the codes stand for; zero where there is no input channel or no output.
    requantize : Requantize
    residual : Residual or None
    keep : int or None
        First word in the residual memory where the final outputs are written too: those of
        successive drain clocks in successive words, `scalers` activations each,
        ``groups · pixels · O / scalers`` words in all. It may be the address that `residual` reads.
    macs : int
        Multiplications of the source model that this layer stands for, for reports.
    """

    name: str
    source: FeatureMap
    target: FeatureMap | None
    height: int
    width: int
    channels: int
    mode: str
    stride_y: int = 1
    stride_x: int = 1
    origin_y: int = 0
    origin_x: int = 0
    windows: tuple[tuple[int, int], ...] = ((0, 0),)
    slice_step: int = 0
    slices: int = 1
    fill: int
    weights: Array
    requantize: Requantize
    residual: Residual | None = None
    keep: int | None = None
    macs: int = 0

    def __post_init__(self) -> None:
        """Check what needs no engine."""
        if self.mode not in ("window", "point"):
            raise SpecError(f"mode must be one of window, point, not {self.mode!r}")
        if self.target is None and self.keep is None:
            raise SpecError("target must be given when nothing is kept, not None")
        if self.target is not None:
            own = self.height, self.width, self.channels
            theirs = self.target.height, self.target.width, self.target.channels
            if own != theirs:
                raise SpecError(f"target must have the shape of the output {own}, not {theirs}")
        if self.requantize.bias.shape != (self.channels,):
            raise SpecError(
                f"parameters must be those of {self.channels} channels, "
                f"not {len(self.requantize.bias)}"
            )
        if self.weights.ndim != 4 or self.weights.shape[1] != self.beats:
            raise SpecError(
                f"weights must have shape (groups, {self.beats}, lanes, outputs), "
                f"not {self.weights.shape}"
            )

    @property
    def pixels(self) -> int:
        """Pixels of the output."""
        return self.height * self.width

    @property
    def groups(self) -> int:
        """Groups of output channels."""
        return self.weights.shape[0]

    @property
    def beats_per_window(self) -> int:
        """Beats, and tiles, of one window."""
        return self.slices if self.mode == "window" else -(-self.slices // TAPS)

    @property
    def beats(self) -> int:
        """Beats of an output pixel, tiles of a group."""
        return len(self.windows) * self.beats_per_window

    def kept_words(self, shape: EngineShape) -> int:
        """Words of the residual memory that the outputs take where they are kept."""
        return self.groups * self.pixels * shape.outputs // shape.scalers


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """The largest activation of each channel in a window.

    Output pixel (y, x) takes the largest of ``rows × columns`` pixels (at most 3 × 3) from
    ``(y · stride_y + origin_y + oy, x · stride_x + origin_x + ox)`` on, of every window (oy, ox);
    pixels outside of the map count as the smallest activation.

    Members
    -------
    low, high : int
        Range that the result is clamped to.
    """

    name: str
    source: FeatureMap
    target: FeatureMap
    rows: int
    columns: int
    stride_y: int = 1
    stride_x: int = 1
    origin_y: int = 0
    origin_x: int = 0
    windows: tuple[tuple[int, int], ...] = ((0, 0),)
    low: int
    high: int

    def __post_init__(self) -> None:
        """Check the window."""
        for name in ("rows", "columns"):
            if not 1 <= getattr(self, name) <= 3:
                raise SpecError(f"{name} must be between 1 and 3, not {getattr(self, name)}")
        if self.source.channels != self.target.channels:
            raise SpecError(
                f"target must have the source's {self.source.channels} channels, "
                f"not {self.target.channels}"
            )


#: A layer of any type.
Layer = Conv | MaxPool
