"""Narrowing a number: rounding right shifts and saturation, as expressions without state.

`golden.rounding` has the same functions on NumPy integers.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Mux, Shape, Value, signed


def shift_half_up(value: Any, amount: Any, most: int | None = None) -> Value:
    """Return ``floor(value / 2^amount + 1/2)``: to nearest, ties towards plus infinity.

    Parameters
    ----------
    value
        Signed or unsigned, any width.
    amount
        Bits dropped: a constant, or an unsigned signal.
    most
        Largest value that a signal `amount` takes; by default the largest it can hold.
    """
    return nudged_half_up(value, amount, most) >> Value.cast(amount)


def nudged_half_up(value: Any, amount: Any, most: int | None = None) -> Value:
    """Return what a plain right shift by `amount` turns into `shift_half_up`: half a step more.

    For pipelines that register between the two.
    """
    value, amount = Value.cast(value), Value.cast(amount)
    return value + Cat(*(amount == place for place in range(1, _most(amount, most) + 1)))


def shift_half_away(value: Any, amount: Any, most: int | None = None) -> Value:
    """Return ``value / 2^amount`` to nearest, ties away from zero (gemmlowp's RoundingDivideByPOT).

    Parameters
    ----------
    value
        Signed or unsigned, any width.
    amount
        Bits dropped: a constant, or an unsigned signal.
    most
        Largest value that a signal `amount` takes; by default the largest it can hold.
    """
    return nudged_half_away(value, amount, most) >> Value.cast(amount)


def nudged_half_away(value: Any, amount: Any, most: int | None = None) -> Value:
    """Return what a plain right shift by `amount` turns into `shift_half_away`.

    Half a step is added, less one for a negative value: ``2^(amount-1) - 1`` is a mask and the
    missing one is the carry into the adder, so that one adder does it. For pipelines that register
    between the two.
    """
    value, amount = Value.cast(value), Value.cast(amount)
    mask = Cat(*(amount > place for place in range(1, _most(amount, most))))
    upwards = (amount != 0) & ~_negative(value)
    # The bit below the units of both operands makes the carry.
    wide = Cat(Const(1, 1), value)
    total = (wide.as_signed() if value.shape().signed else wide) + Cat(upwards, mask)
    return total >> 1


def saturate(value: Any, shape: Any) -> Value:
    """Return the value of `shape` that is nearest to `value`."""
    value, shape = Value.cast(value), Shape.cast(shape)
    if not value.shape().signed:
        value = Cat(value, Const(0, 1)).as_signed()
    width = shape.width
    if len(value) <= width:
        value = (value + Const(0, signed(width)))[: width + 1].as_signed()
    negative = value[-1]
    if shape.signed:  # it fits when everything from the new sign up is a copy of it
        outside = value[width - 1 :].any() & ~value[width - 1 :].all()
        limit = Cat((~negative).replicate(width - 1), negative)
    else:
        outside = value[width:].any()
        limit = (~negative).replicate(width)
    narrow = Mux(outside, limit, value[:width])
    return narrow.as_signed() if shape.signed else narrow


def _negative(value: Value) -> Value:
    return Value.cast(value[-1] if value.shape().signed else Const(0, 1))


def _most(amount: Value, given: int | None) -> int:
    if given is not None:
        return given
    return amount.value if isinstance(amount, Const) else (1 << len(amount)) - 1
