"""The butterfly of a Walsh-Hadamard transform: the exact sum and difference of two numbers."""

from typing import Any

from amaranth.hdl import Cat, Mux, Value


def butterfly(a: Any, b: Any) -> tuple[Value, Value]:
    """Return ``a + b`` and ``a − b``, each signed and one bit wider than the operands.

    Parameters
    ----------
    a, b
        Signed, of one width.
    """
    a, b = Value.cast(a), Value.cast(b)
    return _extended(a + b, a[-1], b[-1]), _extended(a - b, a[-1], ~b[-1])


def _extended(total: Value, a_sign: Value, b_sign: Value) -> Value:
    """Return the sum of two operands of an even width with its top bit made beside the carry chain.

    Fabrics with two bits a carry cell (ECP5) spend a whole cell on the bit that makes the width
    odd. It is a function of the signs and the bit below: where the signs agree it is theirs, else
    nothing overflows.
    """
    width = len(total) - 1
    if width % 2:
        return total.as_signed()
    return Cat(total[:width], Mux(a_sign == b_sign, a_sign, total[width - 1])).as_signed()
