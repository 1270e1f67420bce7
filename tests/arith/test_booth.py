import pytest
from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.sim import Simulator

from mulfree.arith.booth import digits_of, multiple, partial_product, recode, sparse


def values_of(shape):
    half = 1 << shape.width - 1
    return range(-half, half) if shape.signed else range(2 * half)


def run(check):
    sim = Simulator(Module())
    sim.add_testbench(check)
    sim.run()


SHAPES = [kind(bits) for kind in (signed, unsigned) for bits in (1, 2, 3, 4, 5, 6)]


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_digits_make_the_value(shape):
    value = Signal(shape)
    digits = recode(value)
    assert len(digits) == ((shape.width + 1) // 2 if shape.signed else shape.width // 2 + 1)

    async def check(ctx):
        for v in values_of(shape):
            ctx.set(value, v)
            total = 0
            for place, (one, two, negative) in enumerate(digits):
                one, two, negative = ctx.get(one), ctx.get(two), ctx.get(negative)
                assert not (one and two)
                total += (one + 2 * two) * (-1 if negative else 1) << 2 * place
            assert total == v

    run(check)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_partial_products_are_the_multiples(shape):
    multiplicand, selector = Signal(shape), Signal(signed(2))
    (digit,) = recode(selector)

    async def check(ctx):
        for v in values_of(shape):
            for d in values_of(signed(2)):
                ctx.set(multiplicand, v)
                ctx.set(selector, d)
                terms = partial_product(digit, multiplicand, 3)
                assert sum(ctx.get(t.value) << t.shift for t in terms) == v * d << 3

    run(check)


def test_partial_products_of_every_triplet():
    # The higher digit sees all eight triplets, both zeros and +2 included.
    multiplicand, selector = Signal(signed(4)), Signal(signed(4))
    digits = recode(selector)

    async def check(ctx):
        for v in values_of(signed(4)):
            for d in values_of(signed(4)):
                ctx.set(multiplicand, v)
                ctx.set(selector, d)
                terms = [
                    t for i, x in enumerate(digits) for t in partial_product(x, multiplicand, 2 * i)
                ]
                assert sum(ctx.get(t.value) << t.shift for t in terms) == v * d

    run(check)


def test_digits_of_an_integer():
    for value in range(-600, 600):
        digits = digits_of(value)
        assert all(-2 <= digit <= 2 for digit in digits)
        assert sum(digit * 4**place for place, digit in enumerate(digits)) == value
    assert digits_of(0) == []
    assert digits_of(7) == [-1, 2]


def fewest(value, places):
    """Return the fewest non-zero digits from -2 to 2 that so many places need for a value."""
    if not places:
        return 0 if value == 0 else None
    counts = [
        (d != 0) + rest
        for d in range(-2, 3)
        if (value - d) % 4 == 0 and (rest := fewest((value - d) // 4, places - 1)) is not None
    ]
    return min(counts, default=None)


@pytest.mark.parametrize("bits", range(1, 10))
def test_sparse_digits_make_the_value_and_are_the_fewest(bits):
    m, value = Module(), Signal(signed(bits))
    digits = sparse(m, value, "value")
    assert len(digits) == (bits + 1) // 2

    async def check(ctx):
        for v in values_of(signed(bits)):
            ctx.set(value, v)
            found = []
            for one, two, negative in digits:
                one, two, negative = ctx.get(one), ctx.get(two), ctx.get(negative)
                assert not (one and two)
                assert one or two or not negative
                found.append((one + 2 * two) * (-1 if negative else 1))
            assert sum(d << 2 * place for place, d in enumerate(found)) == v
            assert sum(d != 0 for d in found) == fewest(v, len(digits))

    sim = Simulator(m)
    sim.add_testbench(check)
    sim.run()


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_a_multiple_lacks_one_where_the_digit_is_negative(shape):
    multiplicand, selector = Signal(shape), Signal(signed(2))
    (digit,) = recode(selector)
    row = multiple(digit, multiplicand)
    wrap = 1 << shape.width + 1

    async def check(ctx):
        for v in values_of(shape):
            for d in values_of(signed(2)):
                ctx.set(multiplicand, v)
                ctx.set(selector, d)
                expected = v * d - ctx.get(digit.negative)
                assert ctx.get(row) == (expected if shape.signed else expected % wrap)

    run(check)
