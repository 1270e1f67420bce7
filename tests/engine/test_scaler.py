"""Tests of the engine's scaler against the requantizer's golden model."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from mulfree.engine.scaler import Scaler, ScalerSpec
from mulfree_sim.golden.requantizer import multiply_by_quantized_multiplier

LIMITS = {"zero_point": -3, "low": -100, "high": 127}


def channels(spec, rng):
    """Return parameters of a lane's channels: bias, multiplier, right shift, left shift."""
    smallest = 1 << 30  # a normalised multiplier's
    return [
        {
            "bias": int(rng.integers(-1 << (spec.acc_bits - 2), 1 << (spec.acc_bits - 2))),
            "multiplier": int(rng.choice([0, smallest, 2 * smallest - 1, rng.integers(smallest)])),
            "right": int(rng.integers(spec.right_shift + 1)),
            "left": int(rng.integers(spec.left_shift + 1)),
        }
        for _ in range(spec.pieces)
    ]


def wanted(spec, channel, acc):
    """Return the output of an accumulator."""
    wide = 1 << spec.acc_bits
    total = (acc + channel["bias"] + wide // 2) % wide - wide // 2
    shift = -channel["right"]
    if channel["right"] == 0 and spec.left_shift:
        shift = channel["left"]
        total = int(np.clip(total << shift, -wide // 2, wide // 2 - 1))
        shift = 0
    scaled = multiply_by_quantized_multiplier(
        np.array([total]), np.array([channel["multiplier"]]), np.array([shift]), spec.rounding
    )
    return int(np.clip(scaled[0] + LIMITS["zero_point"], LIMITS["low"], LIMITS["high"]))


def accumulators(spec, channel, rng, count):
    """Return accumulators: any, the ends, and those that lie about a tie after the shift."""
    high = (1 << (spec.acc_bits - 1)) - 1
    near = (2 * rng.integers(-150, 150, count) + 1) << max(channel["right"] - 1, 0)
    values = rng.integers(-high - 1, high + 1, count)
    values[::2] = near[::2] * 2**31 // max(channel["multiplier"], 1) - channel["bias"]
    values[1::2] >>= rng.integers(0, spec.acc_bits, len(values[1::2]))
    values[:4] = -high - 1, high, 0, -channel["bias"]
    return np.clip(values, -high - 1, high).tolist()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"pieces": 2},
        {"pieces": 4, "rounding": "single"},
        {"rounding": "single", "acc_bits": 32},
        {"pieces": 3, "acc_bits": 17, "left_shift": 5},
        {"pieces": 2, "acc_bits": 18, "left_shift": 9, "rounding": "single"},
    ],
    ids=str,
)
def test_every_output(parameters):
    defaults = {"acc_bits": 24, "out_bits": 8, "out_signed": True, "left_shift": 0, "pieces": 1}
    spec = ScalerSpec(**({"rounding": "double"} | defaults | parameters))
    dut = Scaler(spec)
    rng = np.random.default_rng(5)

    async def bench(ctx):
        for name, value in LIMITS.items():
            ctx.set(getattr(dut, name), value)
        expected = []

        async def tick(fill, piece, channel, acc=None):
            row = {name: channel[name] for name in spec.parameters}
            if "left" in row and row["right"]:
                row["left"] = 0
            ctx.set(dut.fill, fill)
            ctx.set(dut.piece, piece)
            ctx.set(dut.row, row)
            ctx.set(dut.acc, acc or 0)
            expected.append(None if acc is None else wanted(spec, channel, acc))
            await ctx.tick()
            if len(expected) >= spec.latency and expected[-spec.latency] is not None:
                out = ctx.get(dut.out)
                assert out - (out >> 7 << 8) == expected[-spec.latency], (row, acc)

        for _ in range(12):
            group = channels(spec, rng)
            # The accumulators of the group before are still on their way.
            for piece, channel in enumerate(group):
                for clock in range(spec.fill_clocks):
                    await tick(clock == 0, piece, channel)
            values = [accumulators(spec, channel, rng, 40) for channel in group]
            for accs in zip(*values, strict=True):
                for piece, (channel, acc) in enumerate(zip(group, accs, strict=True)):
                    await tick(0, piece, channel, acc)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
