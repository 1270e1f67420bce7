"""Golden models in NumPy integers: the law that hardware, firmware and boards follow bit for bit.

`golden.UNIT` is the model of `units.UNIT`. Every matrix-vector core's model has ``matvec(spec,
weights, act)``.
"""

import importlib
from types import ModuleType

from mulfree.spec import Spec


def model(spec: Spec) -> ModuleType:
    """Return the golden module of a unit."""
    return importlib.import_module(f"mulfree_sim.golden.{spec.unit}")
