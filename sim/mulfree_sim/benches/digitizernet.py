"""Bench of the collaborating arrays: analog levels held in each, comparators in its neighbours."""

import itertools
import random
from collections.abc import Sequence

import cocotb
from cocotb.triggers import FallingEdge, Timer

from mulfree.units.digitizernet import DigitizerNetSpec
from mulfree_sim.analog import Comparators
from mulfree_sim.benches import ports
from mulfree_sim.golden import digitizernet as golden


async def collaborate(
    dut,
    spec: DigitizerNetSpec,
    analog: Comparators,
    levels: Sequence[float],
    idle: float = 0.0,
    stall: float = 0.0,
) -> tuple[list[int], list[int], list[int]]:
    """Compute and digitise levels; return codes, their arrays, and clocks between vectors."""
    codes: list[int] = []
    arrays: list[int] = []
    accepted: list[int] = []
    line: dict[int, float] = {}  # product-sum on each array's sum line
    hold: dict[int, float] = {}  # level on each array's hold capacitor
    computed = [0] * spec.arrays
    offered = False
    clock = 0
    while len(codes) < len(levels):
        offered = len(accepted) < len(levels) and (offered or random.random() >= idle)
        dut.vector__valid.value = int(offered)
        dut.code__ready.value = int(random.random() >= stall)
        await Timer(1, "ns")
        turn, lend, compute = (int(getattr(dut, n).value) for n in ("turn", "lend", "compute"))
        assert compute in (0, 1 << turn)
        assert not lend & 1 << turn, "an array is its own reference"
        assert not lend & compute, "an array computes and lends"
        references = ports.unpack(int(dut.reference.value), spec.bits, spec.arrays, signed=False)
        answers = random.getrandbits(spec.arrays)
        for place in range(spec.comparators):
            array = (turn + 1 + place) % spec.arrays
            if lend >> array & 1:
                above = analog.above(hold[turn], array, references[array])
                answers = answers & ~(1 << array) | above << array
        dut.above.value = answers
        await Timer(1, "ns")
        for array in range(spec.arrays):
            computed[array] += compute >> array & 1
            if int(dut.hold.value) >> array & 1:
                assert computed[array] == spec.compute_cycles, "held too early or too late"
                computed[array] = 0
                hold[array] = line.pop(array)
        if int(dut.code__valid.value) and int(dut.code__ready.value):
            word = int(dut.code__payload.value)
            index_bits = (spec.arrays - 1).bit_length()
            arrays.append(word & ((1 << index_bits) - 1))
            codes.append(word >> index_bits)
        if offered and int(dut.vector__ready.value):
            line[(turn + 1) % spec.arrays] = levels[len(accepted)]
            accepted.append(clock)
            offered = False
        await FallingEdge(dut.clk)
        clock += 1
    gaps = [b - a for a, b in itertools.pairwise(accepted)]
    return codes, arrays, gaps


@cocotb.test()
async def every_level(dut) -> None:
    """Every level gets its code; phases last as long as the longer of compute and digitise."""
    spec = ports.spec()
    await ports.start(dut, vector__valid=0, code__ready=0, above=0)
    levels = list(range(1 << spec.bits)) * 2
    random.shuffle(levels)
    for idle, stall in ((0.0, 0.0), (0.6, 0.0), (0.0, 0.6), (0.6, 0.6)):
        analog = Comparators(spec.bits, spec.arrays)
        codes, arrays, gaps = await collaborate(dut, spec, analog, levels, idle, stall)
        assert codes == levels, (codes, levels)
        if not idle and not stall:
            assert gaps == [p.clocks for p in golden.run(spec, levels)][: len(gaps)], gaps
            assert arrays == [k % spec.arrays for k in range(len(levels))]


@cocotb.test()
async def imperfect_analog(dut) -> None:
    """Mismatch, offset and noise of each array: codes as the model's, decision by decision."""
    spec = ports.spec()
    await ports.start(dut, vector__valid=0, code__ready=0, above=0)
    levels = [random.uniform(0, 1 << spec.bits) for _ in range(4 * spec.arrays + 40)]
    faults = {"mismatch": 0.1, "offset": 0.3, "noise": 0.5, "seed": random.getrandbits(31)}
    analog = Comparators(spec.bits, spec.arrays, **faults)
    codes, _, _ = await collaborate(dut, spec, analog, levels, stall=0.3)
    same = Comparators(spec.bits, spec.arrays, **faults)
    expected = golden.run(spec, levels, same)
    assert codes == [p.found.code for p in expected if p.found]
