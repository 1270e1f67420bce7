"""Runs given vectors through the bit-plane array and gives back what came out.

Settings: `input`, an npz with `act` (n, inputs) and `threshold` (outputs,); `output`, the npz to
write, with `result` (n, outputs), `planes` (n,) and the counters.
"""

import cocotb
import numpy as np

from mulfree_sim.benches import bitplane, ports


@cocotb.test()
async def run(dut) -> None:
    """Load the thresholds, send the vectors, keep the results."""
    settings = ports.settings()
    given = np.load(settings["input"])
    array = bitplane.Array(dut, ports.spec())
    await array.start()
    array.stitch(0, 0)
    await array.threshold.put(given["threshold"].tolist())
    result, planes = await array.run(given["act"])
    np.savez(settings["output"], result=result, planes=planes, **await array.counters())
