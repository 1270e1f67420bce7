"""Bench of two transforms back to back: ``H·H·x = N·x``."""

import random

import cocotb
import numpy as np

from mulfree.units.wht import WHTSpec
from mulfree_sim.benches import ports
from mulfree_sim.benches.wht import STALLS, from_beats, to_beats, vectors

#: Vectors sent under each mix of idling and stalls.
VECTORS = 20


@cocotb.test()
async def gives_points_times_the_vector(dut) -> None:
    """Every vector comes back times the number of points. The Spec is the first engine's."""
    spec: WHTSpec = ports.spec()
    await ports.start(dut, sample__valid=0, sample__payload=0, result__ready=0)
    wide = spec.result_bits + spec.levels
    for idle, stall in STALLS:
        given = vectors(spec, VECTORS)
        words = to_beats(given, spec.lanes, spec.bits, serial=False)
        put = cocotb.start_soon(ports.Stream(dut, "sample").put(words, idle))
        words = await ports.Stream(dut, "result").get(len(words), stall)
        await put
        got = from_beats(words, spec.points, spec.lanes, wide, serial=False)
        assert np.array_equal(got, spec.points * given), f"idle {idle}, stall {stall}"
        await ports.edges(dut, random.randrange(4))
