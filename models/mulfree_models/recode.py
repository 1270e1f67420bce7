"""An integer network's weights in another coding: powers of two."""

from dataclasses import dataclass, replace

import numpy as np

from mulfree.formats import PowerOfTwo
from mulfree_models.graph import Conv2D, Dense, Graph
from mulfree_models.pot import PowerOfTwoWeights
from mulfree_models.quantise import quantise_multiplier


@dataclass(frozen=True)
class Recoded:
    """What a layer's weights lost: `error` is the RMS difference over the RMS of the weights."""

    name: str
    error: float


def power_of_two(graph: Graph, coding: PowerOfTwo) -> tuple[Graph, list[Recoded]]:
    """Return the graph with weights that are powers of two, and what each layer lost.

    Each output channel has a scale of its own, which goes into its factor and its bias; weights are
    never scaled by what a batch normalisation left in the factor.
    """
    quantiser = PowerOfTwoWeights(coding)
    ops, report = [], []
    for op in graph.ops:
        if not isinstance(op, Conv2D | Dense):
            ops.append(op)
            continue
        rows = op.weights.reshape(len(op.weights), -1).astype(np.float64)
        found = quantiser(rows)
        real = op.multiplier * 2.0 ** (op.shift - 31) * found.scale
        pairs = [quantise_multiplier(float(r), 15 if op.wide else 31) for r in real]
        multiplier, shift = np.array(pairs, np.int64).T
        ops.append(
            replace(
                op,
                weights=found.values.reshape(op.weights.shape),
                bias=np.rint(op.bias / found.scale).astype(np.int64),
                multiplier=multiplier << 16 if op.wide else multiplier,
                shift=shift,
            )
        )
        lost = found.values * found.scale[:, None] - rows
        error = np.sqrt((lost**2).sum() / max((rows**2).sum(), 1))
        report.append(Recoded(op.output, float(error)))
    return graph.with_ops(ops), report
