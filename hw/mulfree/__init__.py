"""Generators of neural-network hardware that never uses a multiplier."""

from mulfree.spec import Spec, SpecError

__version__ = "0.1.0"

__all__ = ["Spec", "SpecError", "__version__"]
