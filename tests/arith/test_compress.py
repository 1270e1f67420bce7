import itertools
import random

import pytest
from amaranth.hdl import Const, Fragment, Module, Signal, signed, unsigned
from amaranth.sim import Simulator

from mulfree.arith.compress import SCHEMES, BitHeap
from mulfree.arith.trees import Term


def values_of(shape):
    half = 1 << shape.width - 1
    return range(-half, half) if shape.signed else range(2 * half)


def product_heap(bits):
    """Return the heap of an unsigned bits × bits product."""
    return BitHeap(2 * bits, [Term(Signal(bits), i) for i in range(bits)])


def adders(plan):
    return (
        sum(full for step in plan for full, _ in step.adders),
        sum(half for step in plan for _, half in step.adders),
    )


def test_width_must_be_positive():
    with pytest.raises(ValueError, match=r"^width must be 1 or more, not 0$"):
        BitHeap(0)


def test_scheme_must_be_known():
    with pytest.raises(ValueError, match=r"^scheme must be one of array, wallace, dadda, not 'x'$"):
        product_heap(3).plan("x")


def test_register_level_must_exist():
    heap, m = product_heap(3), Module()
    with pytest.raises(ValueError, match=r"^registers must be levels between 0 and 2, not 3$"):
        heap.sum(m, heap.plan("dadda"), registers=(3,))
    Fragment.get(m, None)


@pytest.mark.parametrize("bits", [3, 4, 6, 8, 12, 16])
def test_dadda_uses_the_published_number_of_adders(bits):
    # N² − 4N + 3 full and N − 1 half adders (Townsend, Swartzlander and Abraham, "A comparison of
    # Dadda and Wallace multiplier delays", SPIE 2003).
    assert adders(product_heap(bits).plan("dadda")) == (bits**2 - 4 * bits + 3, bits - 1)


@pytest.mark.parametrize(
    ("bits", "stages"), [(3, 1), (4, 2), (6, 3), (8, 4), (9, 4), (13, 5), (16, 6)]
)
def test_wallace_and_dadda_take_the_published_stages(bits, stages):
    heap = product_heap(bits)
    assert len(heap.plan("dadda")) == stages
    assert len(heap.plan("wallace")) == stages


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_array_takes_a_stage_a_row(bits):
    assert len(product_heap(bits).plan("array")) == bits - 2


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_rows_need_no_stage(scheme, count):
    assert BitHeap(4, [Term(Signal(4)) for _ in range(count)]).plan(scheme) == []


def random_terms(rng):
    terms = []
    for _ in range(rng.randrange(9)):
        shape = (signed if rng.random() < 0.5 else unsigned)(rng.choice((1, 1, 1, 2, 3)))
        value = Signal(shape) if rng.random() < 0.85 else Const(rng.choice(values_of(shape)), shape)
        terms.append(Term(value, rng.randrange(4), rng.random() < 0.3))
    while sum(len(t.value) for t in terms if isinstance(t.value, Signal)) > 9:
        terms.pop()
    return terms


def exact(terms, values):
    signs = (-1 if t.negate else 1 for t in terms)
    return sum(s * (v << t.shift) for s, t, v in zip(signs, terms, values, strict=True))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(20))
def test_every_input_sums_exactly(scheme, seed):
    rng = random.Random(seed)
    terms, width = random_terms(rng), rng.randrange(1, 9)
    heap, m = BitHeap(width, terms), Module()
    total = heap.sum(m, heap.plan(scheme))
    spaces = [
        [t.value.value] if isinstance(t.value, Const) else values_of(t.value.shape()) for t in terms
    ]

    async def check(ctx):
        for values in itertools.product(*spaces):
            for term, value in zip(terms, values, strict=True):
                if isinstance(term.value, Signal):
                    ctx.set(term.value, value)
            assert ctx.get(total) == exact(terms, values) % (1 << width), (terms, values)

    sim = Simulator(m)
    sim.add_testbench(check)
    sim.run()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("levels", [(0,), (1, -1), (0, 1, 2, -1)])
def test_registers_delay_by_ranks_and_obey_enable(scheme, levels):
    rng = random.Random(3)
    enable, m = Signal(), Module()
    terms = [Term(Signal(signed(4)), i % 3, negate=i == 4) for i in range(7)]
    heap = BitHeap(8, [*terms, Term(Const(5))])
    plan = heap.plan(scheme)
    registers = {level % (len(plan) + 2) for level in levels}
    total = heap.sum(m, plan, registers=registers, enable=enable)

    async def check(ctx):
        pending = []
        for _ in range(60):
            values = [rng.choice(values_of(signed(4))) for _ in terms]
            for term, value in zip(terms, values, strict=True):
                ctx.set(term.value, value)
            ctx.set(enable, taken := rng.random() < 0.6)
            await ctx.tick()
            if taken:
                pending.append((exact(terms, values) + 5) % 256)
            if len(pending) >= len(registers):
                assert ctx.get(total) == pending[-len(registers)]

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(check)
    sim.run()
