"""When everything happens: the engine's delays, and the clocks that a network takes.

The next tile's head and weights are asked for when a tile comes into use, and wait in front of the
core. So a change of weights costs what the core itself needs for it, unless a tile has so few
pixels that the next one's weights are not there yet. The sequencer waits for nothing else but a
chunk's turn to drain: a layer takes the same time for every input. The hardware takes its delays
from here, too.

With a streamed program the same holds where every word is there when it is asked for: a seek takes
no clock of its own. What comes later makes a run longer by at most the clocks in which asks are
refused.
"""

from dataclasses import dataclass

from mulfree.engine.accumulators import Accumulators
from mulfree.engine.drain import Drain
from mulfree.engine.geometry import Geometry
from mulfree.engine.maps import Fetch, Largest, Writer

#: Edges from the address of a word of the program to the word.
PROGRAM_LATENCY = 2
#: Edges that the queue in front of the core costs at most.
QUEUE_LATENCY = 3


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the time of a layer depends on.

    Members
    -------
    loads : ((bool, …), …)
        For each group of outputs, for each of its tiles: whether it comes with weights.
    pixels : int
        Of the output map.
    pieces : int
        Clocks in which a pixel drains.
    rows : int
        Rows of parameters.
    terms : int
        Entries of the residual's tables; 0 where nothing is added.
    """

    loads: tuple[tuple[bool, ...], ...]
    pixels: int
    pieces: int
    rows: int
    terms: int


@dataclass(frozen=True, kw_only=True)
class Delays:
    """Clock edges between events, of one geometry.

    Members
    -------
    result : int
        From a step of the walk to its dot products.
    summed : int
        From the first step of a chunk's last tile to the drain's word of it.
    drain : int
        From asking for accumulators to their outputs.
    gap, empty_gap : int
        Clocks without a step before a tile with weights of its own, and before another one.
    load, empty_load : int
        From the edge that asks for a tile to the last one of the gap before it, at least.
    fill : int
        Clocks in which the scalers' tables are filled, for each piece of a pixel.
    """

    result: int
    summed: int
    drain: int
    gap: int
    empty_gap: int
    load: int
    empty_load: int
    fill: int

    @classmethod
    def of(cls, geometry: Geometry) -> "Delays":
        """Return the delays of an engine."""
        result = Fetch.LATENCY + max(geometry.core_latency, Largest.LATENCY)
        # One edge to turn to the tile, one to ask, one behind the last word: its head is there.
        empty_load = geometry.words(geometry.tile_layout) + PROGRAM_LATENCY + 2
        empty_gap = Accumulators.INTERVAL - 1
        return cls(
            result=result,
            summed=result + Accumulators.SETTLE,
            drain=Drain.latency(geometry) + Writer.LATENCY,
            gap=max(geometry.core.swap_clocks - 1, empty_gap),
            empty_gap=empty_gap,
            # The core may take the former tile's last beat `Fetch.LATENCY` edges behind the gap,
            # and only then is the next one asked for. Activations follow their step as late.
            load=empty_load + QUEUE_LATENCY + geometry.core.load_clocks,
            empty_load=empty_load,
            fill=geometry.scaler.fill_clocks,
        )


def layer_reads(geometry: Geometry, work: Work) -> int:
    """Return the words of the program that a layer asks for: tiles once more with every chunk."""
    reads = geometry.words(geometry.layer_layout)
    reads += work.rows * geometry.words(geometry.row_layout)
    reads += work.terms * geometry.words(geometry.term_layout)
    chunks = -(-work.pixels // geometry.chunk)
    for loads in work.loads:
        tiles = len(loads) * geometry.words(geometry.tile_layout) + sum(loads) * geometry.tile_words
        reads += tiles * (chunks if len(loads) > 1 else 1)
    return reads


def layer_cycles(geometry: Geometry, work: Work) -> int:
    """Return the clocks from a layer's first to the next one's first."""
    delays = Delays.of(geometry)
    now = geometry.words(geometry.layer_layout) + PROGRAM_LATENCY + 1
    now += work.rows * geometry.words(geometry.row_layout)
    now += work.terms * geometry.words(geometry.term_layout)
    asked = now  # the edge that asked for the tile that is next
    fill = work.pieces * delays.fill
    filled = now + 1 + fill  # the last edge on which the scalers' tables are not ready
    now += 1
    whole, rest = divmod(work.pixels, geometry.chunk)
    chunks = [geometry.chunk] * whole + [rest] * (rest > 0)
    freed = [-1, -1]  # the edges that freed the two sets of accumulators, the older one first
    for loads in work.loads:
        for index, pixels in enumerate(chunks):
            last = now  # the first step of a tile, in the end of the last one
            for tile, load in enumerate(loads):
                if index == 0 or len(loads) > 1:
                    gap, wait = delays.empty_gap, delays.empty_load
                    if load:
                        gap, wait = delays.gap, delays.load
                    asked = max(now + gap - 1, asked + wait)
                    now = asked + 1
                if tile == 0:
                    now = max(now, freed[0] + 1)
                last = now
                now += pixels
            ask = max(last + delays.summed, freed[1], filled) + 1
            freed = [freed[1], ask + pixels * work.pieces - 1]
        filled = freed[1] + fill
    return freed[1] + delays.drain + 1
