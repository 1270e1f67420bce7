"""Bench of the conventional cores."""

import cocotb

from mulfree_sim.benches import core


@cocotb.test()
async def equals_golden(dut) -> None:
    """Every result equals the golden model, with the pipeline always enabled."""
    await core.matches_golden(dut)


@cocotb.test()
async def equals_golden_with_stalls(dut) -> None:
    """The same while the enable comes and goes."""
    await core.matches_golden(dut, stall=0.3)


@cocotb.test()
async def loads_in_time(dut) -> None:
    """Tiles load and change in as many clocks as the Spec says."""
    await core.loads_in_time(dut)
