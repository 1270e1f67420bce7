"""Bench of the digitiser controllers, with a behavioural analog model that closes the loop."""

import itertools
import random
from collections.abc import Sequence

import cocotb
from cocotb.triggers import FallingEdge, Timer

from mulfree.units.digitizer import DigitizerSpec
from mulfree_sim.analog import Comparators
from mulfree_sim.benches import ports
from mulfree_sim.golden import digitizer as golden


async def digitize(
    dut,
    spec: DigitizerSpec,
    analog: Comparators,
    levels: Sequence[float],
    idle: float = 0.0,
    stall: float = 0.0,
) -> tuple[list[int], list[int], list[int]]:
    """Digitise levels; return codes, clocks from one acceptance to the next, and comparisons."""
    codes: list[int] = []
    accepted: list[int] = []
    comparisons: list[int] = []
    offered = False
    clock = 0
    while len(codes) < len(levels):
        # Inputs change at the falling edge; the comparators answer when the references have
        # settled.
        offered = len(accepted) < len(levels) and (offered or random.random() >= idle)
        dut.sample__valid.value = int(offered)
        dut.code__ready.value = int(random.random() >= stall)
        await Timer(1, "ns")
        strobe = int(dut.strobe.value)
        if strobe:
            references = ports.unpack(
                int(dut.reference.value), spec.bits, spec.comparators, signed=False
            )
            asked = [(k, r) for k, r in enumerate(references) if strobe >> k & 1]
            assert all(r > 0 for _, r in asked), "a comparator was asked for nothing"
            answers = analog.decide(levels[len(accepted) - 1], asked)
            dut.above.value = sum(
                answer << k for (k, _), answer in zip(asked, answers, strict=True)
            )
            comparisons[-1] += len(asked)
        else:
            dut.above.value = random.getrandbits(spec.comparators)  # nobody may look
        await Timer(1, "ns")
        if int(dut.code__valid.value) and int(dut.code__ready.value):
            codes.append(int(dut.code__payload.value))
        if offered and int(dut.sample__ready.value):
            accepted.append(clock)
            comparisons.append(0)
            offered = False
        await FallingEdge(dut.clk)
        clock += 1
    gaps = [b - a for a, b in itertools.pairwise(accepted)]
    return codes, gaps, comparisons


async def start(dut) -> None:
    """Start the clock with every input idle."""
    await ports.start(dut, sample__valid=0, code__ready=0, above=0)


@cocotb.test()
async def every_level(dut) -> None:
    """Ideal comparators: every level gets its code, in the clocks and comparisons of the model."""
    spec = ports.spec()
    await start(dut)
    levels = list(range(1 << spec.bits))
    random.shuffle(levels)
    for idle, stall in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)):
        analog = Comparators(spec.bits, spec.comparators)
        codes, gaps, comparisons = await digitize(dut, spec, analog, levels, idle, stall)
        expected = [golden.convert_level(spec, level) for level in levels]
        assert codes == levels, (codes, levels)
        assert comparisons == [e.comparisons for e in expected]
        if not idle and not stall:
            assert gaps == [e.cycles for e in expected][:-1], gaps


@cocotb.test()
async def imperfect_analog(dut) -> None:
    """Mismatch, offset, noise: the controller decides as the model does, each time."""
    spec = ports.spec()
    await start(dut)
    seed = random.getrandbits(31)
    levels = [random.uniform(0, 1 << spec.bits) for _ in range(200)]
    faults = {"mismatch": 0.1, "offset": 0.3, "noise": 0.5, "seed": seed}
    codes, _, comparisons = await digitize(
        dut, spec, Comparators(spec.bits, spec.comparators, **faults), levels, 0.2, 0.2
    )
    same = Comparators(spec.bits, spec.comparators, **faults)
    expected = [
        golden.convert(spec, lambda asked, level=level: same.decide(level, asked))
        for level in levels
    ]
    assert codes == [e.code for e in expected]
    assert comparisons == [e.comparisons for e in expected]
