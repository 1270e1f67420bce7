"""A program and its source model, layer by layer: where they first differ."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mulfree.engine.program import Program
from mulfree_models import reference
from mulfree_models.graph import Graph
from mulfree_sim.golden.network import Engine

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """How far a layer's outputs are from the model's, in codes.

    Members
    -------
    first : tuple of int or None
        Image, row, column and channel of the first output that differs.
    """

    layer: str
    outputs: int
    differing: int
    largest: int
    mean: float
    first: tuple[int, ...] | None


def layers(program: Program, graph: Graph, codes: Array) -> Iterator[Difference]:
    """Yield the differences of the layers that both have, in the engine's order.

    Parameters
    ----------
    codes
        Inputs, shape (n, …).
    """
    wanted = {layer.name for layer in program.layers}
    known = {
        op.output: out for op, out in reference.activations(graph, codes) if op.output in wanted
    }
    engine = Engine(program, codes)
    for layer in program.layers:
        found = engine.run(layer)
        if layer.name not in known:
            continue
        other = known[layer.name].reshape(found.shape)
        off = np.abs(found - other)
        places = np.argwhere(off)
        yield Difference(
            layer=layer.name,
            outputs=off.size,
            differing=len(places),
            largest=int(off.max()),
            mean=float(off.mean()),
            first=tuple(places[0].tolist()) if len(places) else None,
        )
