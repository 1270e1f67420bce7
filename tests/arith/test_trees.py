import itertools
import random

import pytest
from amaranth.hdl import Const, Fragment, Module, Signal, signed, unsigned
from amaranth.sim import Simulator

from mulfree.arith.trees import Term, add_tree, levels, shape_for, spread


def simulate(m, check):
    """Run a combinational module through an async check."""
    sim = Simulator(m)
    sim.add_testbench(check)
    sim.run()


@pytest.fixture
def m():
    """Return a module that may stay without a simulation."""
    module = Module()
    yield module
    Fragment.get(module, None)


def exact(terms, values):
    signs = (-1 if t.negate else 1 for t in terms)
    return sum(s * (v << t.shift) for s, t, v in zip(signs, terms, values, strict=True))


def values_of(shape):
    return (
        range(-(1 << shape.width - 1), 1 << shape.width - 1)
        if shape.signed
        else range(1 << shape.width)
    )


@pytest.mark.parametrize(
    ("bounds", "shape"),
    [
        ((0, 0), unsigned(0)),
        ((0, 1), unsigned(1)),
        ((5, 8), unsigned(4)),
        ((-1, 0), signed(1)),
        ((-8, 7), signed(4)),
        ((-8, 8), signed(5)),
        ((-9, -9), signed(5)),
    ],
)
def test_shape_for_is_the_narrowest(bounds, shape):
    assert shape_for(bounds) == shape


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 0), (2, 1), (3, 2), (8, 3), (9, 4)])
def test_levels(count, expected):
    assert levels(count) == expected


def test_spread_ends_at_the_last_level():
    assert spread(4, 0) == ()
    assert spread(4, 1) == (4,)
    assert spread(4, 2) == (2, 4)
    assert spread(5, 3) == (2, 4, 5)
    assert spread(3, 3) == (1, 2, 3)


def test_spread_refuses_more_ranks_than_levels():
    with pytest.raises(ValueError, match=r"^ranks must be between 0 and 2, not 3$"):
        spread(2, 3)


def test_register_level_must_exist(m):
    terms = [Term(Signal(4)), Term(Signal(4)), Term(Signal(4))]
    with pytest.raises(ValueError, match=r"^registers must be levels between 0 and 2, not 3$"):
        add_tree(m, terms, registers=(3,))


def test_no_terms_make_zero(m):
    result = add_tree(m, [])
    assert isinstance(result.value, Const)
    assert (result.value.value, result.ranks, result.bounds) == (0, 0, (0, 0))


def test_bounds_narrow_the_sum(m):
    # A digit table's entries reach -3·128 but never 3·-129.
    terms = [
        Term(Signal(signed(10)), bounds=(-384, 381)),
        Term(Signal(signed(10)), 2, bounds=(-384, 381)),
    ]
    result = add_tree(m, terms)
    assert result.bounds == (-1920, 1905)
    assert result.value.shape() == signed(12)


def random_terms(rng):
    terms = []
    for _ in range(rng.randrange(1, 5)):
        shape = (signed if rng.random() < 0.5 else unsigned)(rng.randrange(1, 4))
        value = Signal(shape) if rng.random() < 0.85 else Const(rng.choice(values_of(shape)), shape)
        terms.append(Term(value, rng.randrange(5), rng.random() < 0.3))
    return terms


@pytest.mark.parametrize("seed", range(60))
def test_every_input_sums_exactly(seed):
    terms = random_terms(random.Random(seed))
    m = Module()
    result = add_tree(m, terms)
    low, high = result.bounds
    assert result.value.shape() == shape_for(result.bounds)
    spaces = [
        [t.value.value] if isinstance(t.value, Const) else values_of(t.value.shape()) for t in terms
    ]
    reached = set()

    async def check(ctx):
        for values in itertools.product(*spaces):
            for term, value in zip(terms, values, strict=True):
                if isinstance(term.value, Signal):
                    ctx.set(term.value, value)
            expected = exact(terms, values)
            assert ctx.get(result.value) == expected, (terms, values)
            reached.add(expected)

    simulate(m, check)
    assert (min(reached), max(reached)) == (low, high)


@pytest.mark.parametrize("registers", [(0,), (1,), (2, 3), (0, 1, 2, 3)])
def test_registers_delay_by_ranks_and_obey_enable(registers):
    rng = random.Random(7)
    enable = Signal()
    terms = [Term(Signal(signed(5)), 3 * (i % 3), negate=i == 4) for i in range(7)]
    m = Module()
    result = add_tree(m, terms, registers=registers, enable=enable)
    assert result.ranks == len(registers)

    async def check(ctx):
        pending = []
        for _ in range(60):
            values = [rng.choice(values_of(signed(5))) for _ in terms]
            for term, value in zip(terms, values, strict=True):
                ctx.set(term.value, value)
            ctx.set(enable, taken := rng.random() < 0.6)
            await ctx.tick()
            if taken:
                pending.append(exact(terms, values))
            if len(pending) >= result.ranks:
                assert ctx.get(result.value) == pending[len(pending) - result.ranks]

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(check)
    sim.run()
