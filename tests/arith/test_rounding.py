import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.sim import Simulator

from mulfree.arith import rounding
from mulfree_sim.golden import rounding as golden


def values_of(shape):
    low = -(1 << shape.width - 1) if shape.signed else 0
    return range(low, low + (1 << shape.width))


def results(shape, expression, amounts=(0,)):
    """Return {(value, amount): what an expression of both gives}."""
    m = Module()
    value, amount = Signal(shape), Signal(range(max(amounts) + 1))
    out = Signal(signed(24))
    m.d.comb += out.eq(expression(value, amount))
    found = {}

    async def walk(ctx):
        for a in amounts:
            for v in values_of(shape):
                ctx.set(value, v)
                ctx.set(amount, a)
                await ctx.delay(1e-9)
                found[v, a] = ctx.get(out)

    sim = Simulator(m)
    sim.add_testbench(walk)
    sim.run()
    return found


SHAPES = [signed(1), signed(2), signed(7), unsigned(1), unsigned(6)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("amount", range(9))
def test_constant_shifts(shape, amount):
    up = results(shape, lambda v, _: rounding.shift_half_up(v, amount))
    away = results(shape, lambda v, _: rounding.shift_half_away(v, amount))
    for v in values_of(shape):
        assert up[v, 0] == golden.shift_half_up(v, amount), v
        assert away[v, 0] == golden.shift_half_away(v, amount), v


@pytest.mark.parametrize("shape", SHAPES)
def test_variable_shift(shape):
    amounts = range(12)
    for name in ("shift_half_up", "shift_half_away"):
        got = results(shape, lambda v, a, name=name: getattr(rounding, name)(v, a, 11), amounts)
        for (v, a), result in got.items():
            assert result == getattr(golden, name)(v, a), (name, v, a)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "to", [signed(1), signed(2), signed(4), signed(9), unsigned(1), unsigned(5)]
)
def test_saturate(shape, to):
    got = results(shape, lambda v, _: rounding.saturate(v, to))
    for v in values_of(shape):
        assert got[v, 0] == golden.saturate(v, to.width, to.signed), v


def test_golden_rounds_as_the_words_say():
    halves = np.arange(-7, 8)  # -3.5 to 3.5 in steps of a half
    assert golden.shift_half_up(halves, 1).tolist() == [
        -3, -3, -2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3, 3, 4,
    ]  # fmt: skip
    assert golden.shift_half_away(halves, 1).tolist() == [
        -4, -3, -3, -2, -2, -1, -1, 0, 1, 1, 2, 2, 3, 3, 4,
    ]  # fmt: skip
