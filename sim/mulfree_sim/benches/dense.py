"""Bench of fully connected layers: layers of several sizes in turn, idle sources, stuck sinks."""

import random
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import with_timeout
from numpy.typing import NDArray

from mulfree.engine.dense import DenseSpec
from mulfree_sim.benches import array, core, ports, requantizer
from mulfree_sim.golden import dense as golden
from mulfree_sim.golden.array import Run
from mulfree_sim.golden.requantizer import ChannelParameters

#: Layers tried.
LAYERS = 3


async def start(dut: Any, spec: DenseSpec) -> None:
    """Start the clock with every input idle."""
    idle = {"weight__valid": 0, "weight__payload": 0} if spec.core.loadable else {}
    for name in ("act", "parameter"):
        idle |= {f"{name}__valid": 0, f"{name}__payload": 0}
    await ports.start(dut, out__ready=0, zero_point=0, low=0, high=0, **idle)


async def configure(
    dut: Any, spec: DenseSpec, parameters: ChannelParameters, clamp: Sequence[int]
) -> None:
    """Load a layer's parameters; `clamp` is (zero_point, low, high)."""
    mask = (1 << spec.out_bits) - 1
    for name, value in zip(("zero_point", "low", "high"), clamp, strict=True):
        getattr(dut, name).value = int(value) & mask
    words = requantizer.parameter_words(spec.requantizer, parameters)
    await ports.Stream(dut, "parameter").put(words)


def weight_words(spec: DenseSpec, runs: Sequence[Run]) -> list[int]:
    """Return the words of the `weight` stream."""
    encode = spec.core.weight_format.encode
    return [code for run in runs for code in encode(run.weights.T.ravel()).tolist()]


def act_words(spec: DenseSpec, runs: Sequence[Run]) -> list[int]:
    """Return the words of the `act` stream."""
    return [word for run in runs for word in array.beats(spec.array, run)]


def decode(spec: DenseSpec, words: Sequence[int]) -> NDArray[np.int64]:
    """Return words of the `out` stream as shape (results, outputs)."""
    flat = [ports.unpack(w, spec.out_bits, spec.scalers, spec.out_signed) for w in words]
    return np.array(flat, np.int64).reshape(-1, spec.core.outputs)


def random_runs(spec: DenseSpec, groups: int, rng: np.random.Generator) -> list[Run]:
    """Return the runs of two batches, the second one not full, one or two tiles deep."""
    act = spec.core.act_format
    tiles = core.tiles(spec.core, rng)
    depth = int(rng.integers(1, 3))
    return [
        Run(
            weights=tiles[rng.integers(len(tiles))],
            act=rng.integers(act.low, act.high + 1, (count, spec.core.lanes)),
            slot=np.arange(count),
            last=np.full(count, place == depth - 1),
        )
        for count in (min(spec.acc_slots, 5), min(spec.acc_slots, 2))
        for _ in range(groups)
        for place in range(depth)
    ]


async def check(dut: Any, idle: float, stall: float) -> None:
    """Run layers and compare every output with the golden model."""
    spec: DenseSpec = ports.spec()
    rng = np.random.default_rng(random.getrandbits(32))
    await start(dut, spec)
    width = spec.core.outputs
    low, high = spec.requantizer.out_range
    for _ in range(LAYERS):
        channels = int(rng.integers(1, min(spec.channels, 3 * width) + 1))
        parameters = requantizer.random_parameters(spec.requantizer, channels, rng)
        clamp = (int(rng.integers(low, high + 1)), low, high)
        runs = random_runs(spec, -(-channels // width), rng)
        expected = golden.results(spec, runs, parameters, *clamp)
        await configure(dut, spec, parameters, clamp)
        if spec.core.loadable:
            cocotb.start_soon(ports.Stream(dut, "weight").put(weight_words(spec, runs), idle))
        cocotb.start_soon(ports.Stream(dut, "act").put(act_words(spec, runs), idle))
        count = len(expected) * spec.pieces
        take = cocotb.start_soon(ports.Stream(dut, "out").get(count, stall))
        got = decode(spec, await with_timeout(take, 50, "ms"))
        exists = np.arange(width) < channels - width * (-(-channels // width) - 1)
        last_group = expected_groups(runs, -(-channels // width)) == -(-channels // width) - 1
        keep = ~last_group[:, None] | exists
        assert (got == expected)[keep].all(), (got, expected)


def expected_groups(runs: Sequence[Run], groups: int) -> NDArray[np.int64]:
    """Return the group of each result."""
    slots = np.concatenate([run.slot[run.last] for run in runs])
    return (np.cumsum(slots == 0) - 1) % groups


@cocotb.test()
@cocotb.parametrize(idle=[0.0, 0.4], stall=[0.0, 0.4])
async def equals_golden(dut, idle: float, stall: float) -> None:
    """Every output of every layer equals the golden model."""
    await check(dut, idle, stall)
