"""A memory outside, from which the network engine reads its program: steady, halting, or far away.

It keeps the contract of the port `program` and no more: before the first seek, and behind the last
word, it offers nothing that means anything.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cocotb.triggers import FallingEdge, ReadOnly


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How words come; each pair is the least and the most, drawn anew every time.

    Members
    -------
    burst, gap : (int, int)
        Words one after the other, and then clocks without a word.
    seek : (int, int)
        Clocks without a word after a seek.
    """

    burst: tuple[int, int] = (1, 1)
    gap: tuple[int, int] = (0, 0)
    seek: tuple[int, int] = (0, 0)


#: A word is there whenever one is asked for.
STEADY = Pace()
#: Words that come late: now and then, in bursts, slowly, from far away.
HALTING = (
    Pace(burst=(1, 4), gap=(0, 4), seek=(0, 4)),
    Pace(burst=(4, 60), gap=(10, 300), seek=(10, 40)),
    Pace(gap=(11, 11)),
    Pace(burst=(64, 64), gap=(0, 1), seek=(50, 300)),
)


class Reader:
    """Serves the port `program` of an engine, and counts.

    Members
    -------
    reads : int
        Words that were transferred.
    refused : int
        Clocks in which the engine asked for a word that was not there.
    """

    def __init__(self, dut: Any, words: Sequence[int], pace: Pace) -> None:
        self.reads = 0
        self.refused = 0
        self._dut = dut
        self._words = words
        self._pace = pace

    async def serve(self) -> None:
        """Offer words, from a falling edge on, until cancelled."""
        dut, words, pace = self._dut, self._words, self._pace
        bits = len(dut.program__payload)
        place, wait, left = len(words), 0, 0
        while True:
            offers = place < len(words) and not wait
            dut.program__valid.value = int(offers)
            dut.program__payload.value = words[place] if offers else random.getrandbits(bits)
            await ReadOnly()
            asks = int(dut.program__ready.value)
            if int(dut.program_seek.value):
                assert not asks, "a word is asked for together with a seek"
                place = int(dut.program_from.value)
                wait, left = random.randint(*pace.seek), random.randint(*pace.burst)
            elif wait:
                wait -= 1
            elif asks and offers:
                self.reads += 1
                place += 1
                left -= 1
                if not left:
                    wait, left = random.randint(*pace.gap), random.randint(*pace.burst)
            self.refused += asks and not offers
            await FallingEdge(dut.clk)
