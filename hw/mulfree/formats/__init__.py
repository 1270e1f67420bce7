"""How a number is coded: quantise, encode, decode. NumPy only."""

from mulfree.formats.integer import Int
from mulfree.formats.pot import PowerOfTwo

__all__ = ["Int", "PowerOfTwo"]
