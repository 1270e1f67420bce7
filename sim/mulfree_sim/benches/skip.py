"""Bench of the zero-skipping unit: any sparsity, idling and stalling, and the clocks it takes."""

import random

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly, with_timeout

from mulfree.formats.runs import Compressed, compress
from mulfree.units.skip import SkipSpec
from mulfree_sim.benches import ports
from mulfree_sim.golden import skip as golden


def act_words(spec: SkipSpec, vector: np.ndarray) -> list[int]:
    """Return a vector as words of the `act` stream."""
    codes = spec.act_format.encode(vector).tolist()
    return [code | (i == len(codes) - 1) << spec.act_bits for i, code in enumerate(codes)]


def weight_words(spec: SkipSpec, entries: Compressed) -> list[int]:
    """Return compressed rows as words of the `weight` stream."""
    columns = [spec.weight_format.encode(entries.values), entries.runs, entries.last, entries.end]
    widths = [spec.weight_bits, spec.run_bits, 1, 1]
    words = []
    for fields in zip(*(column.tolist() for column in columns), strict=True):
        word, at = 0, 0
        for field, width in zip(fields, widths, strict=True):
            word |= int(field) << at
            at += width
        words.append(word)
    return words


def plan(spec: SkipSpec, rng: np.random.Generator) -> list[tuple[Compressed, np.ndarray]]:
    """Return matrices of every sparsity and the vectors that they take.

    Where the setting ``layer`` names an npz file, its `matrix` is taken instead, with each row of
    its `vectors`.
    """
    if "layer" in ports.settings():
        with np.load(ports.settings()["layer"]) as layer:
            entries = compress(layer["matrix"], spec.run_bits)
            return [(entries, vector) for vector in layer["vectors"]]
    act, codes = spec.act_format, spec.weight_format.values()
    made = []
    for density in (0.0, 0.05, 0.3, 0.5, 1.0, 0.5):
        columns = int(rng.integers(1, spec.inputs + 1)) if density != 1.0 else spec.inputs
        matrix = rng.choice(codes, (int(rng.integers(1, 8)), columns))
        matrix[rng.random(matrix.shape) >= density] = 0
        vector = rng.integers(act.low, act.high + 1, columns)
        vector[rng.random(columns) < 0.2] = act.low
        made.append((compress(matrix, spec.run_bits), vector))
    return made


async def equals_golden(dut, idle: float, stall: float) -> None:
    """Send matrices and vectors and compare every sum."""
    spec = ports.spec()
    todo = plan(spec, np.random.default_rng(random.getrandbits(32)))
    expected = [s for entries, vector in todo for s in golden.sums(spec, entries, vector).tolist()]
    await ports.start(dut, act__valid=0, weight__valid=0, result__ready=0)
    words = [word for _, vector in todo for word in act_words(spec, vector)]
    cocotb.start_soon(ports.Stream(dut, "act").put(words, idle))
    words = [word for entries, _ in todo for word in weight_words(spec, entries)]
    cocotb.start_soon(ports.Stream(dut, "weight").put(words, idle))
    take = cocotb.start_soon(ports.Stream(dut, "result").get(len(expected), stall))
    got = [ports.unpack(word, spec.acc_bits, 1)[0] for word in await with_timeout(take, 10, "ms")]
    assert got == expected


@cocotb.test()
@cocotb.parametrize(idle=[0.0, 0.5], stall=[0.0, 0.6])
async def whatever_source_and_sink_do(dut, idle: float, stall: float) -> None:
    """Every sum equals the golden model, in order."""
    await equals_golden(dut, idle, stall)


@cocotb.test()
async def takes_one_clock_an_entry(dut) -> None:
    """From the first entry to the last sum it takes what the golden model says."""
    spec = ports.spec()
    rng = np.random.default_rng(random.getrandbits(32))
    await ports.start(dut, act__valid=0, weight__valid=0, result__ready=1)
    for entries, vector in plan(spec, rng):
        await ports.Stream(dut, "act").put(act_words(spec, vector))
        await FallingEdge(dut.clk)  # the buffers change places
        cocotb.start_soon(ports.Stream(dut, "weight").put(weight_words(spec, entries)))
        left, clocks = int(entries.last.sum()), 0
        while left:
            clocks += 1
            await FallingEdge(dut.clk)
            await ReadOnly()
            left -= int(dut.result__valid.value)
        await FallingEdge(dut.clk)
        assert clocks == golden.cycles([entries])
