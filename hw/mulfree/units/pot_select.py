"""Power-of-two products for standard cells: one selected row each, all rows in one carry-save sum.

A decoded line for every exponent stands still while a tile is in use, so that a product is one row
of ANDs and ORs without shifter stages or registers; its negative is the complement, whose ones are
added with the rows.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value

from mulfree.arith.trees import Term


def rows(
    m: Module, act: Value, code: Value, weight_bits: int, signed: bool, name: str
) -> list[Term]:
    """Return terms that sum to ±act·2^e, or to zero, for the code of one term."""
    field = code[: weight_bits - 1]
    most = (1 << (weight_bits - 1)) - 2
    number = Cat(act, *([act[-1]] if signed else []), Const(0, int(not signed)))
    width = len(act) + most
    sign = number[-1]
    picked: Any = Const(0, width)
    for exponent in range(most + 1):
        line = Signal(name=f"{name}_is_{exponent}")
        m.d.comb += line.eq(field == exponent + 1)
        above = [sign] * max(width - exponent - len(act), 0)
        shifted = Cat(Const(0, exponent), act, *above)[:width]
        picked = picked | (shifted & line.replicate(width))
    negative = Signal(name=f"{name}_negative")
    row = Signal(width + 1, name=f"{name}_row")
    m.d.comb += negative.eq(code[weight_bits - 1] & field.any())
    top = picked[-1] if signed else Const(0, 1)
    m.d.comb += row.eq(Cat(picked, top) ^ negative.replicate(width + 1))
    return [Term(row.as_signed()), Term(negative)]
