"""Bench of the weight-stationary array: whole runs under every mixture of idling and stalling."""

import random

import cocotb
import numpy as np
from cocotb.triggers import with_timeout

from mulfree.engine.array import ArraySpec
from mulfree_sim.benches import core, ports
from mulfree_sim.golden.array import Run, results


def runs(spec: ArraySpec, rng: np.random.Generator, count: int) -> list[Run]:
    """Return runs with random weights and corners, of one beat and more."""
    act = spec.core.act_format
    made = []
    for tile in core.tiles(spec.core, rng)[:count]:
        beats = int(rng.integers(1, 12))
        vectors = rng.integers(act.low, act.high + 1, (beats, spec.core.lanes))
        vectors[rng.random(beats) < 0.2] = act.low
        made.append(
            Run(
                weights=tile,
                act=vectors,
                slot=rng.integers(0, spec.acc_slots, beats),
                last=rng.random(beats) < 0.4,
            )
        )
    return made


def beats(spec: ArraySpec, run: Run) -> list[int]:
    """Return a run as words of the `act` stream."""
    c = spec.core
    words = []
    for place, (act, slot, last) in enumerate(zip(run.act, run.slot, run.last, strict=True)):
        retire = place == len(run.act) - 1
        flags = int(last) | retire << 1 | int(slot) << 2
        words.append(ports.pack(act, c.act_bits) | flags << (c.lanes * c.act_bits))
    return words


def decode(spec: ArraySpec, word: int) -> tuple[int, list[int]]:
    """Return (slot, sums) of a word of the `result` stream."""
    outputs = spec.core.outputs
    return word >> (outputs * spec.acc_bits), ports.unpack(word, spec.acc_bits, outputs)


async def equals_golden(dut, idle: float, stall: float) -> None:
    """Send runs and compare every result with the golden model."""
    spec = ports.spec()
    rng = np.random.default_rng(random.getrandbits(32))
    plan = runs(spec, rng, 12)
    expected = [(slot, sums.tolist()) for slot, sums in results(spec, plan)]
    idle_ports = {"weight__valid": 0} if spec.core.loadable else {}
    await ports.start(dut, act__valid=0, result__ready=0, **idle_ports)
    if spec.core.loadable:
        encode = spec.core.weight_format.encode
        words = [code for run in plan for code in encode(run.weights.T.ravel()).tolist()]
        cocotb.start_soon(ports.Stream(dut, "weight").put(core.beats(spec.core, words), idle))
    stream = [word for run in plan for word in beats(spec, run)]
    cocotb.start_soon(ports.Stream(dut, "act").put(stream, idle))
    take = cocotb.start_soon(ports.Stream(dut, "result").get(len(expected), stall))
    got = [decode(spec, word) for word in await with_timeout(take, 10, "ms")]
    assert got == expected


async def flowing(dut) -> None:
    """Neither side waits."""
    await equals_golden(dut, 0.0, 0.0)


async def idle_source(dut) -> None:
    """The source is idle half of the time."""
    await equals_golden(dut, 0.5, 0.0)


async def stalling_sink(dut) -> None:
    """The sink refuses half of the time."""
    await equals_golden(dut, 0.0, 0.5)


async def idle_source_and_stalling_sink(dut) -> None:
    """Both."""
    await equals_golden(dut, 0.4, 0.6)


for _case in (flowing, idle_source, stalling_sink, idle_source_and_stalling_sink):
    globals()[_case.__name__] = cocotb.test()(_case)
