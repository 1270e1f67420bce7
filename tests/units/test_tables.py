import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from mulfree.units.tables import TableWalker, walk

WEIGHTS = (5, -7)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_reset_amid_a_walk_leaves_nothing_behind(lanes):
    """The walk after it, at once, writes what every walk writes."""
    bits = 4 // lanes
    steps = walk(lanes, bits, False, (False, True))
    walker = TableWalker(
        outputs=len(WEIGHTS), blocks=1, lanes=lanes, groups=1, weight_bits=4, entry_bits=9,
        steps=steps, block=False,
    )  # fmt: skip
    reset = Signal()
    every = {
        (step.address, top): tuple(w * _digits(step.address, lanes, bits, top) for w in WEIGHTS)
        for step in steps
        for top in range(2)
        if step.writes[top]
    }

    async def bench(ctx):
        ctx.set(walker.weights[0], sum((w & 15) << 4 * o for o, w in enumerate(WEIGHTS)))
        for stop in range(len(steps) + TableWalker.DELAY):
            ctx.set(walker.start, 1)
            for _ in range(stop):
                await ctx.tick()
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            written = {}
            while not ctx.get(walker.filled):
                note(ctx, written)
                await ctx.tick()
            ctx.set(walker.start, 0)
            for _ in range(TableWalker.DELAY + 1):
                note(ctx, written)
                await ctx.tick()
            assert written == every

    def note(ctx, written):
        for top in range(2):
            if ctx.get(walker.write[0]) >> top & 1:
                word = ctx.get(walker.words[0])
                written[ctx.get(walker.address[0]), top] = tuple(
                    _signed(word >> 9 * o, 9) for o in range(len(WEIGHTS))
                )

    simulator = Simulator(ResetInserter(reset)(walker))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def _digits(address, lanes, bits, top):
    """Return the sum of the lanes' digits, whose bits alternate in an address."""
    codes = [sum((address >> (b * lanes + lane) & 1) << b for b in range(bits))
             for lane in range(lanes)]  # fmt: skip
    return sum(_signed(code, bits) if top else code for code in codes)


def _signed(value, bits):
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)
