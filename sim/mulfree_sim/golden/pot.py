"""Golden model of the power-of-two cores: plain integer arithmetic on what the codes stand for."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.units.pot import PoTSpec


def matvec(spec: PoTSpec, weights: ArrayLike, act: ArrayLike) -> NDArray[np.int64]:
    """Return ``Σ_l weights[o, l] · act[..., l]``.

    Parameters
    ----------
    weights
        Shape (outputs, lanes): the values of the codes, not the codes.
    act
        Shape (..., lanes).

    Returns
    -------
    Shape (..., outputs).
    """
    return spec.act_format.check(act, "act") @ spec.weight_format.check(weights, "weights").T
