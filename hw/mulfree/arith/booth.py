"""Radix-4 recoding: a number as half as many digits from -2 to 2.

Digit i of y is ``-2·y[2i+1] + y[2i] + y[2i-1]`` (Booth, "A signed binary multiplication technique",
Quart. J. Mech. Appl. Math. 4, 1951; radix 4 by MacSorley, "High-speed arithmetic in binary
computers", Proc. IRE 49, 1961). `sparse` gives digits of fewer non-zero ones.
"""

from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed

from mulfree.arith.trees import Term


class Digit(NamedTuple):
    """One recoded digit, ``(-1)^negative · (one + 2·two)``.

    Members
    -------
    one, two
        Its magnitude; neither for zero.
    negative
        Its sign; a zero may have either.
    """

    one: Any
    two: Any
    negative: Any


def recode(value: Any) -> list[Digit]:
    """Return the digits of a value, the one of weight 1 first, then those of weight 4, 16, …

    ``ceil(bits / 2)`` of them for a two's complement value, ``bits // 2 + 1`` for an unsigned one.
    """
    value = Value.cast(value)
    signed = value.shape().signed
    count = len(value) // 2 + 1 if not signed else (len(value) + 1) // 2
    sign = value[-1] if signed else Const(0, 1)
    bits = [Const(0, 1), *value, *[sign] * (2 * count - len(value))]
    digits = []
    for low, mid, high in zip(bits[0::2], bits[1::2], bits[2::2], strict=False):
        digits.append(Digit(low ^ mid, (high ^ mid) & ~(mid ^ low), high))
    return digits


def sparse(m: Module, value: Any, name: str) -> list[Digit]:
    """Return ``ceil(bits / 2)`` digits of a two's complement value, the one of weight 1 first.

    They are the places of the non-adjacent form two by two, so that no other digits from -2 to 2
    have fewer non-zero ones. A zero is not negative (Reitwiesner, "Binary arithmetic", Advances in
    Computers 1, 1960: the form of w is that of 3w - w, place by place and without borrows).
    """
    value = Value.cast(value).as_signed()
    bits = len(value)
    wide, triple = (Signal(signed(bits + 2), name=f"{name}_{n}") for n in ("wide", "triple"))
    m.d.comb += [wide.eq(value), triple.eq(wide + (wide << 1))]
    plus, minus = (triple & ~wide)[1 : bits + 1], (wide & ~triple)[1 : bits + 1]
    digits = []
    for low in range(0, bits, 2):
        high = low + 1
        two = plus[high] | minus[high] if high < bits else Const(0, 1)
        digits.append(Digit(plus[low] | minus[low], two, minus[low : low + 2].any()))
    return digits


def multiple(digit: Digit, multiplicand: Any) -> Value:
    """Return ``digit · multiplicand``, or that minus 1 where the digit is negative.

    It has one bit more than the multiplicand; an unsigned one's is modulo 2^width.
    """
    multiplicand = Value.cast(multiplicand)
    width = len(multiplicand) + 1
    has_sign = multiplicand.shape().signed
    sign = multiplicand[-1] if has_sign else Const(0, 1)
    single = Cat(multiplicand, sign)
    double = Cat(Const(0, 1), multiplicand)
    magnitude = (single & digit.one.replicate(width)) | (double & digit.two.replicate(width))
    row = magnitude ^ digit.negative.replicate(width)
    return row.as_signed() if has_sign else row


def partial_product(digit: Digit, multiplicand: Any, shift: int) -> list[Term]:
    """Return terms that sum to ``digit · multiplicand · 2^shift``.

    A negative multiple is the one's complement, and 1 more.
    """
    row = multiple(digit, multiplicand)
    if not row.shape().signed:  # its top bit is left for the sign
        row = Cat(row, digit.negative).as_signed()
    return [Term(row, shift), Term(digit.negative, shift)]


def digits_of(value: int) -> list[int]:
    """Return the digits of an integer, the one of weight 1 first, up to the last non-zero."""
    digits, below = [], 0
    while value != -below:
        digits.append((value & 1) + below - 2 * (value >> 1 & 1))
        below = value >> 1 & 1
        value >>= 2
    return digits
