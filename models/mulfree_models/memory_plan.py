"""Where buffers lie in a memory, by when they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Buffer:
    """Words that are needed from step `first` to step `last`, both included."""

    name: str
    words: int
    first: int
    last: int

    def meets(self, other: "Buffer") -> bool:
        """Tell whether both are needed at one step."""
        return self.first <= other.last and other.first <= self.last


def need(buffers: Sequence[Buffer], step: int) -> int:
    """Return the words that are needed at a step: no plan does with less."""
    return sum(b.words for b in buffers if b.first <= step <= b.last)


def peak(buffers: Sequence[Buffer]) -> int:
    """Return the step that needs the most words."""
    return max((b.first for b in buffers), key=lambda step: need(buffers, step))


def plan(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """Return the first word of each buffer, and the words in all.

    Each buffer in turn goes to the lowest place that is free all the time it is needed; of several
    orders the one that takes the fewest words wins.
    """
    orders = (
        lambda b: (-b.words, b.first),
        lambda b: (b.first, -b.words),
        lambda b: (-b.words * (b.last - b.first + 1), b.first),
        lambda b: (b.first - b.last, -b.words),
    )
    best: tuple[list[int], int] | None = None
    for order in orders:
        places: dict[int, int] = {}
        for i in sorted(range(len(buffers)), key=lambda i: order(buffers[i])):
            own = buffers[i]
            taken = sorted(
                (place, place + buffers[j].words)
                for j, place in places.items()
                if buffers[j].meets(own)
            )
            at = 0
            for low, high in taken:
                if at + own.words <= low:
                    break
                at = max(at, high)
            places[i] = at
        words = max((places[i] + b.words for i, b in enumerate(buffers)), default=0)
        if best is None or words < best[1]:
            best = [places[i] for i in range(len(buffers))], words
    assert best is not None
    return best
