"""Shifters: every code times every number, whatever the structure."""

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from mulfree.arith.shifters import STRUCTURES, Shifter
from mulfree.formats import PowerOfTwo


@pytest.mark.parametrize("number_bits", [1, 2, 5])
@pytest.mark.parametrize("weight_bits", range(2, 7))
@pytest.mark.parametrize("structure", STRUCTURES)
def test_product_plus_sign_is_number_times_value(structure, weight_bits, number_bits):
    shifter = Shifter(structure, weight_bits, number_bits)
    code, number = Signal(weight_bits), Signal(signed(number_bits))
    m = Module()
    word = shifter.recode(m, code, "word")
    product = Signal(signed(shifter.width))
    m.d.comb += product.eq(shifter.product(m, number, word, lambda value, _: value, "product"))
    sign = Signal()
    m.d.comb += sign.eq(shifter.sign(word))

    async def bench(ctx):
        for pattern in range(1 << weight_bits):
            ctx.set(code, pattern)
            value = int(PowerOfTwo(weight_bits).decode(pattern))
            for x in range(-(1 << (number_bits - 1)), 1 << (number_bits - 1)):
                ctx.set(number, x)
                assert ctx.get(product) + ctx.get(sign) == x * value, (pattern, x)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def test_control_words_have_the_width_they_say():
    for structure in STRUCTURES:
        for bits in range(2, 7):
            shifter = Shifter(structure, bits, 8)
            words = [shifter.control_word(code) for code in range(1 << bits)]
            assert max(words) < 1 << shifter.control_bits
            assert words[0] == words[1 << (bits - 1)]
            assert len(set(words)) == (1 << bits) - 1
