"""Bench of the two-dimensional transform: that of the one-dimensional one, on maps row by row."""

from mulfree_sim.benches.wht import equals_golden

__all__ = ["equals_golden"]
