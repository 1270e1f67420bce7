"""Digits of an operand and the tables of products that they look up."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed

from mulfree.arith.trees import Term


def count(bits: int, digit_bits: int) -> int:
    """Return how many digits an operand of `bits` bits has."""
    return -(-bits // digit_bits)


def cut(value: Value, digit_bits: int) -> list[Value]:
    """Cut a value into digits of `digit_bits` bits, lowest first.

    The top digit is extended to full width by zeros, or by the sign where the value is signed;
    every digit comes as plain bits.
    """
    padded = count(len(value), digit_bits) * digit_bits
    sign = value[-1] if value.shape().signed else 0
    bits = Cat(value[:], *[sign] * (padded - len(value)))
    return [Value.cast(bits[at : at + digit_bits]) for at in range(0, padded, digit_bits)]


def multiples(m: Module, weight: Value, digit_bits: int, odd: bool) -> Signal:
    """Return W·d for the stored d of a digit table side by side, each ``len(W) + digit_bits`` bits
    wide.

    Stored are d = 1 … 2^digit_bits − 1, or the odd ones of them. Every odd multiple is made by one
    addition from a smaller one, and even ones are shifts (LUT-NA's divide and conquer, section 1.2
    of the notes on the papers: "W and 3W only").
    """
    width = len(weight) + digit_bits
    by_digit: dict[int, Value] = {1: weight.as_signed()}
    for d in range(2, 1 << digit_bits):
        if d % 2:
            by_digit[d] = by_digit[d - 1] + by_digit[1]
        else:
            by_digit[d] = by_digit[d // 2] << 1
    stored = [by_digit[d] for d in range(1, 1 << digit_bits, 2 if odd else 1)]
    table = Signal(len(stored) * width)
    for place, entry in enumerate(stored):
        wide = Signal(signed(width), name=f"multiple_{place}")
        m.d.comb += [wide.eq(entry), table[place * width : (place + 1) * width].eq(wide)]
    return table


def look_up(m: Module, table: Value, digit: Value, width: int, odd: bool) -> Signal:
    """Return W·d for an unsigned digit from the table of `multiples`, entries `width` wide."""
    product = Signal(signed(width))
    with m.Switch(digit):
        for d in range(1, 1 << len(digit)):
            shift = (d & -d).bit_length() - 1 if odd else 0
            place = (d >> shift) // 2 if odd else d - 1
            entry = table[place * width : (place + 1) * width].as_signed()
            with m.Case(d):
                m.d.comb += product.eq(entry << shift)
    return product


def small_product(m: Module, a: Value, b: Value) -> Signal:
    """Return a·b of two short operands from one constant table of all their products.

    Raises
    ------
    ValueError
        The table would have more than 2^8 entries.
    """
    if len(a) + len(b) > 8:
        raise ValueError(f"operands must have at most 8 bits together, not {len(a) + len(b)}")
    is_signed = a.shape().signed or b.shape().signed
    product = Signal(signed(len(a) + len(b)) if is_signed else len(a) + len(b))
    with m.Switch(Cat(a[:], b[:])):
        for x in range(1 << len(a)):
            for y in range(1 << len(b)):
                with m.Case(y << len(a) | x):
                    m.d.comb += product.eq(_value(x, a) * _value(y, b))
    return product


def _value(pattern: int, like: Value) -> int:
    """Return what a bit pattern stands for in the coding of a value."""
    negative = like.shape().signed and pattern >> (len(like) - 1)
    return pattern - (1 << len(like)) if negative else pattern


def sign_correction(value: Value, weight: Value, padded: int) -> Term:
    """Return the term that a signed operand needs when its top digit was looked up as unsigned.

    With its sign bit at weight −2^(n−1) and sign extension to `padded` bits, the operand is its
    unsigned digits less 2^padded when it is negative.
    """
    return Term(Mux(value[-1], weight, 0), padded, negate=True)
