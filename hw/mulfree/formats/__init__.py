"""How a number is coded: quantise, encode, decode. NumPy only."""

from mulfree.formats.integer import Int

__all__ = ["Int"]
