"""Bench of the power-of-two cores."""

import random

import cocotb
import numpy as np

from mulfree_sim.benches import core, ports
from mulfree_sim.golden import pot as golden


@cocotb.test()
async def equals_golden(dut) -> None:
    """Every result equals the golden model, with the pipeline always enabled."""
    await core.matches_golden(dut)


@cocotb.test()
async def equals_golden_with_stalls(dut) -> None:
    """The same while the enable comes and goes."""
    await core.matches_golden(dut, stall=0.3)


@cocotb.test()
async def every_code_is_read(dut) -> None:
    """Codes that no encoder writes, the reserved one among them, count as their value."""
    spec = ports.spec()
    if not spec.loadable:
        return
    rng = np.random.default_rng(random.getrandbits(32))
    await core.reset(dut, spec)
    code_bits, shape = spec.weight_format.code_bits, (spec.outputs, spec.lanes)
    every = rng.permutation(1 << code_bits)
    taps = spec.outputs * spec.lanes
    act = core.vectors(spec, rng, 8) if spec.lanes > 1 else spec.act_format.values()[:, None]
    for start in range(0, len(every), taps):
        tile = np.resize(every[start : start + taps], shape)
        await core.load_codes(dut, tile.T.ravel().tolist())
        got = await core.feed(dut, spec, act, stall=0.1)
        expected = golden.matvec(spec, spec.weight_format.decode(tile), act)
        assert np.array_equal(got, expected), f"codes {tile.tolist()}"


@cocotb.test()
async def loads_in_time(dut) -> None:
    """Tiles load and change in as many clocks as the Spec says."""
    await core.loads_in_time(dut)
