"""Golden model of the two-dimensional transform: the one-dimensional one of the row-major map."""

from mulfree_sim.golden.wht import transform

__all__ = ["transform"]
