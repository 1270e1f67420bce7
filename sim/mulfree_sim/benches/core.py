"""Bench of every matrix-vector core: any Spec, exhaustive where the space allows.

`benches.UNIT` of each core takes its tests from here.
"""

import os
import random

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from mulfree.units.core import CoreSpec
from mulfree_sim import golden
from mulfree_sim.benches import ports

#: Spaces of up to this many (weights, activations) pairs are tried whole, once without stalls.
EXHAUSTIVE = int(os.environ.get("MULFREE_EXHAUSTIVE", 1 << 20))
#: Vectors tried of larger spaces, over so many tiles.
VECTORS, TILES = 2000, 8


def space(spec: CoreSpec) -> int:
    """Return the number of distinct (weights, activations) pairs."""
    code_bits = spec.weight_shape.width if spec.loadable else 0
    return 1 << min(spec.lanes * (spec.act_bits + spec.outputs * code_bits), 64)


def tiles(spec: CoreSpec, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the weight tiles to try: all of them, or corners and random ones."""
    shape = spec.outputs, spec.lanes
    if not spec.loadable:
        return [np.array(spec.matrix)]
    codes = spec.weight_format.values()
    if space(spec) <= EXHAUSTIVE:
        grids = np.meshgrid(*[codes] * (spec.outputs * spec.lanes), indexing="ij")
        return list(np.stack([g.ravel() for g in grids], -1).reshape(-1, *shape))
    corners = [np.full(shape, code) for code in (codes[0], codes[-1], 0, 1, -1) if code in codes]
    return [*corners, *(rng.choice(codes, shape) for _ in range(TILES))]


def vectors(spec: CoreSpec, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return the activation vectors to try with each tile, shape (n, lanes)."""
    act = spec.act_format
    if space(spec) <= EXHAUSTIVE:
        grids = np.meshgrid(*[act.values()] * spec.lanes, indexing="ij")
        return np.stack([g.ravel() for g in grids], -1)
    corners = np.array([[v] * spec.lanes for v in (act.low, act.high, 0, act.low + 1)])
    return np.concatenate([corners, rng.integers(act.low, act.high + 1, (count, spec.lanes))])


async def load(dut, spec: CoreSpec, tile: np.ndarray) -> None:
    """Send a tile and wait until it is in use."""
    await load_codes(dut, spec.weight_format.encode(tile.T.ravel()).tolist())


def beats(spec: CoreSpec, codes: list[int]) -> list[int]:
    """Return codes, those of whole tiles, as payloads of the load stream."""
    together, bits = spec.load_weights, spec.weight_shape.width
    return [ports.pack(codes[at : at + together], bits) for at in range(0, len(codes), together)]


async def load_codes(dut, codes: list[int]) -> None:
    """Send the codes of a tile and wait until it is in use."""
    await ports.Stream(dut, "weight").put(beats(ports.spec(), codes))
    while True:
        await ReadOnly()
        loaded = int(dut.loaded.value)
        await FallingEdge(dut.clk)
        if loaded:
            return


async def reset(dut, spec: CoreSpec) -> None:
    """Start the clock with every input idle."""
    idle = {"weight__valid": 0, "weight__payload": 0, "retire": 0} if spec.loadable else {}
    await ports.start(dut, en=0, act=0, **idle)


async def feed(dut, spec: CoreSpec, act: np.ndarray, stall: float) -> np.ndarray:
    """Send vectors, one per enabled edge; the last one retires the tile. Return the results."""
    latency = spec.latency
    assert latency is not None
    words = [ports.pack(row, spec.act_bits) for row in act.tolist()]
    results = []
    for step in range(len(words) + latency):
        while random.random() < stall:
            dut.en.value = 0
            await FallingEdge(dut.clk)
        dut.en.value = 1
        if step < len(words):
            dut.act.value = words[step]
        if spec.loadable:
            dut.retire.value = int(step == len(words) - 1)
        await ReadOnly()
        if step >= latency:
            results.append(int(dut.result.value))
        await FallingEdge(dut.clk)
    dut.en.value = 0
    return np.array([ports.unpack(r, spec.dot_bits, spec.outputs) for r in results])


async def matches_golden(dut, stall: float = 0.0) -> None:
    """Compare every result with the golden model, over tiles and vectors."""
    spec = ports.spec()
    rng = np.random.default_rng(random.getrandbits(32))
    model = golden.model(spec)
    await reset(dut, spec)
    plan = tiles(spec, rng)
    act = vectors(spec, rng, max(VECTORS // len(plan), 1))
    if stall:  # which cannot matter to one pair and not to another
        plan = [plan[i] for i in rng.permutation(len(plan))[: 2 * TILES]]
        act = rng.permutation(act)[: VECTORS // TILES]
    for tile in plan:
        if spec.loadable:
            await load(dut, spec, tile)
        got = await feed(dut, spec, act, stall)
        expected = model.matvec(spec, tile, act)
        wrong = np.flatnonzero((got != expected).any(axis=1))
        if wrong.size:
            first = wrong[0]
            raise AssertionError(
                f"{wrong.size} of {len(act)} vectors differ; weights {tile.tolist()}, "
                f"act {act[first].tolist()}: {got[first].tolist()}, "
                f"not {expected[first].tolist()}"
            )


async def loads_in_time(dut) -> None:
    """Loading and changing tiles takes as long as the Spec says, and the tiles are the right ones.

    Beats of two tiles more than are used are always on offer, so that buffers are full.
    """
    spec = ports.spec()
    if not spec.loadable:
        return
    rng = np.random.default_rng(random.getrandbits(32))
    model = golden.model(spec)
    await reset(dut, spec)
    used = 3 if spec.load_clocks < 1000 else 1
    shape = used + 2, spec.outputs, spec.lanes
    plan = rng.choice(spec.weight_format.values(), shape)
    codes = [spec.weight_format.encode(tile.T.ravel()).tolist() for tile in plan]
    words = beats(spec, [code for tile in codes for code in tile])
    act = spec.act_format
    # Long enough for a tile to be taken ahead while another one is in use.
    length = spec.load_clocks + 4
    vectors = rng.integers(act.low, act.high + 1, (len(plan), length, spec.lanes))
    due = [spec.load_clocks, *[spec.swap_clocks - 1] * (used - 1)]
    await FallingEdge(dut.clk)
    cocotb.start_soon(ports.Stream(dut, "weight").put(words))
    dut.en.value = 1
    number = step = waited = 0
    taken: list[bool] = []  # activations, by each edge
    results: list[list[int]] = []
    latency = spec.latency or 0
    while len(results) < used * length:
        ready = number < used and bool(int(dut.loaded.value))
        if ready:
            if step == 0:
                late = f"tile {number} came after {waited} clocks, not {due[number]}"
                assert waited == due[number], late
            dut.act.value = ports.pack(vectors[number, step].tolist(), spec.act_bits)
            step += 1
        dut.retire.value = int(ready and step == length)
        waited = 0 if ready else waited + 1
        if ready and step == length:
            number, step = number + 1, 0
        taken.append(ready)
        await ReadOnly()
        if len(taken) > latency and taken[-1 - latency]:
            results.append(ports.unpack(int(dut.result.value), spec.dot_bits, spec.outputs))
        await FallingEdge(dut.clk)
    expected = [model.matvec(spec, plan[n], vectors[n]) for n in range(used)]
    assert np.array_equal(results, np.concatenate(expected))
