"""When everything happens: the engine's delays, and the clocks that a network takes.

The sequencer never waits for anything but a chunk's turn to drain, so the time of a layer is a sum
over its chunks and the same for every input. The hardware takes its delays from here, too.
"""

from dataclasses import dataclass

from mulfree.engine.accumulators import Accumulators
from mulfree.engine.drain import Drain
from mulfree.engine.geometry import Geometry
from mulfree.engine.maps import Fetch, Largest, Writer

#: Edges from the address of a word of the program to the word.
PROGRAM_LATENCY = 2
#: Edges that a queue in front of the core costs at most.
QUEUE_LATENCY = 3


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the time of a layer depends on.

    Members
    -------
    groups, tiles : int
        Groups of outputs; tiles of each.
    pixels : int
        Of the output map.
    pieces : int
        Clocks in which a pixel drains.
    rows : int
        Rows of parameters.
    terms : int
        Entries of the residual's tables; 0 where nothing is added.
    weights : bool
        Whether tiles have weights.
    """

    groups: int
    tiles: int
    pixels: int
    pieces: int
    rows: int
    terms: int
    weights: bool


@dataclass(frozen=True, kw_only=True)
class Delays:
    """Clock edges between events, of one geometry.

    Members
    -------
    result : int
        From a step of the walk to its dot products.
    summed : int
        From the last step of a chunk to the drain's word of it.
    drain : int
        From asking for accumulators to their outputs.
    load : int
        From the beginning of a gap to the reading of weights.
    gap, empty_gap : int
        Length of the gap before a tile with weights, and without.
    """

    result: int
    summed: int
    drain: int
    load: int
    gap: int
    empty_gap: int

    @classmethod
    def of(cls, geometry: Geometry) -> "Delays":
        """Return the delays of an engine."""
        result = Fetch.LATENCY + max(geometry.core_latency, Largest.LATENCY)
        head = geometry.words(geometry.tile_layout)
        # The first weight reaches the core four edges after the reading is begun; the last
        # activations of the former tile do so `Fetch.LATENCY` edges after their step.
        load = max(Fetch.LATENCY - 5 + geometry.retire_clocks, 0)
        queue = 0 if geometry.steady else QUEUE_LATENCY
        gap = load + 4 + queue + geometry.fill_clocks - Fetch.LATENCY
        gap = max(gap, Accumulators.INTERVAL - 1, 1)
        # What comes with a step: the head that was read behind the former tile.
        empty_gap = head + 3
        return cls(
            result=result,
            summed=result + Accumulators.SETTLE,
            drain=Drain.latency(geometry) + Writer.LATENCY,
            load=load,
            # The loader must be through with this tile and the next head, even behind one step.
            gap=max(gap, empty_gap, geometry.tile_words + head + 1),
            empty_gap=empty_gap,
        )


def layer_cycles(geometry: Geometry, work: Work) -> int:
    """Return the clocks from a layer's first to the next one's first."""
    delays = Delays.of(geometry)
    gap = delays.gap if work.weights else delays.empty_gap
    now = geometry.words(geometry.layer_layout) + PROGRAM_LATENCY + 1
    now += work.rows * geometry.words(geometry.row_layout)
    now += work.terms * geometry.words(geometry.term_layout)
    now += geometry.words(geometry.tile_layout) + PROGRAM_LATENCY
    whole, rest = divmod(work.pixels, geometry.chunk)
    chunks = [geometry.chunk] * whole + [rest] * (rest > 0)
    freed = [-1, -1]  # the edges that freed the two sets of accumulators, the older one first
    for _ in range(work.groups):
        for index, pixels in enumerate(chunks):
            if index == 0 or work.tiles > 1:
                now += gap
            now = max(now, freed[0] + 1)
            now += work.tiles * pixels + (work.tiles - 1) * gap
            # The last step was on the edge before.
            ask = max(now - 1 + delays.summed, freed[1]) + 1
            freed = [freed[1], ask + pixels * work.pieces - 1]
    return freed[1] + delays.drain + 1
