"""Golden model of the conventional cores: plain integer arithmetic."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.units.core import CoreSpec


def matvec(spec: CoreSpec, weights: ArrayLike, act: ArrayLike) -> NDArray[np.int64]:
    """Return ``Σ_l weights[o, l] · act[..., l]``.

    Parameters
    ----------
    weights
        Shape (outputs, lanes).
    act
        Shape (..., lanes).

    Returns
    -------
    Shape (..., outputs).
    """
    return spec.act_format.check(act, "act") @ spec.weight_format.check(weights, "weights").T
