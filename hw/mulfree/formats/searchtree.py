"""Binary search trees over the levels of a digitiser: which threshold to compare with next.

A tree over the levels 0…L−1 has L−1 nodes, and each threshold 1…L−1 stands in exactly one of them:
the node t asks "at least t?". A node is therefore known by its threshold, and a tree is a table
from threshold to the two thresholds asked next.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SearchTree(NamedTuple):
    """A search tree over ``levels`` levels.

    ``below[t]`` and ``above[t]`` are the thresholds asked after the answers no and yes at the
    threshold t; 0 ends the search, at the level t − 1 or t. Index 0 is unused.
    """

    root: int
    below: tuple[int, ...]
    above: tuple[int, ...]

    def depths(self) -> list[int]:
        """Return the number of comparisons that each level takes."""
        found = [0] * len(self.below)
        todo = [(self.root, 1)]
        while todo:
            node, depth = todo.pop()
            for then, level in ((self.below[node], node - 1), (self.above[node], node)):
                if then:
                    todo.append((then, depth + 1))
                else:
                    found[level] = depth
        return found


def best_tree(histogram: Sequence[int], depth: int) -> SearchTree:
    """Return the tree with the fewest comparisons on average that takes at most `depth` of them.

    The optimal alphabetic tree under a depth limit: with w(i, j) the counts of the levels i…j−1,
    the cost ``c_d(i, j) = w(i, j) + min_t c_{d−1}(i, t) + c_{d−1}(t, j)``, ``c(i, i+1) = 0``. Among
    equals the middle one of the thresholds is taken, so that levels that never occur are found fast
    as well.

    Parameters
    ----------
    histogram
        How often each level occurs; at least two levels.

    Raises
    ------
    ValueError
        There is no such tree.
    """
    levels = len(histogram)
    if levels < 2:
        raise ValueError(f"histogram must have at least 2 levels, not {levels}")
    if min(histogram) < 0:
        raise ValueError(f"histogram must have no negative count, not {min(histogram)}")
    if 1 << depth < levels:
        raise ValueError(f"depth must be at least {(levels - 1).bit_length()}, not {depth}")
    depth = min(depth, levels - 1)
    cumulative = np.concatenate([[0], np.cumsum(np.asarray(histogram, dtype=np.int64))])
    # The second key, the sum of all depths, breaks ties towards balance. Both keys in one number:
    # the second stays below `unit`.
    unit = levels * levels + 1
    ends = np.arange(levels + 1)
    weight = (cumulative - cumulative[:, None]) * unit + (ends - ends[:, None])
    never = np.iinfo(np.int64).max // 4
    if int(cumulative[-1]) * depth * unit >= never:
        raise ValueError(f"histogram must have fewer counts in all, not {cumulative[-1]}")
    cost = np.full((levels + 1, levels + 1), never)
    cost[ends[:-1], ends[1:]] = 0
    choices: list[NDArray[np.int64]] = []
    for _ in range(depth):
        # at[i, j] the best t in i < t < j
        at = np.zeros_like(cost)
        better = np.full_like(cost, never)
        better[ends[:-1], ends[1:]] = 0
        for span in range(2, levels + 1):
            for i in range(levels + 1 - span):
                j = i + span
                total = cost[i, i + 1 : j] + cost[i + 1 : j, j]
                least = total.min()
                if least < never:
                    ties = np.flatnonzero(total == least)
                    at[i, j] = i + 1 + ties[len(ties) // 2]
                    better[i, j] = least + weight[i, j]
        cost = better
        choices.append(at)

    below, above = [0] * levels, [0] * levels

    def grow(i: int, j: int, limit: int) -> int:
        if j - i == 1:
            return 0
        t = int(choices[limit - 1][i, j])
        below[t], above[t] = grow(i, t, limit - 1), grow(t, j, limit - 1)
        return t

    return SearchTree(grow(0, levels, depth), tuple(below), tuple(above))
