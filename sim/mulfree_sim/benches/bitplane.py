"""Bench of the bit-plane array: every way of stitching, all kinds of thresholds, stalls."""

import random

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from mulfree.units.bitplane import BitPlaneSpec
from mulfree_sim.benches import ports
from mulfree_sim.golden import bitplane as golden

#: Vectors for each mode and each set of thresholds.
VECTORS = 24


def modes(spec: BitPlaneSpec) -> list[tuple[int, int]]:
    """Return every legal (merge, share)."""
    levels = range(spec.levels + 1)
    return [(merge, share) for merge in levels for share in levels if merge + share <= spec.levels]


def vectors(spec: BitPlaneSpec, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return corners, whole-range and small inputs, shape (n, inputs)."""
    high = (1 << spec.planes) - 1
    corners = [np.full(spec.inputs, value) for value in (0, high, -high, -high - 1)]
    wide = rng.integers(-high - 1, high + 1, (count // 2, spec.inputs), endpoint=True)
    laplace = np.rint(rng.laplace(0, high / 8, (count - count // 2, spec.inputs)))
    return np.concatenate([corners, wide.clip(-high - 1, high), laplace.clip(-high, high)]).astype(
        np.int64
    )


def thresholds(spec: BitPlaneSpec, rng: np.random.Generator) -> list[np.ndarray]:
    """Return sets of thresholds: none, full scale, the two corners mixed, and random ones."""
    top = spec.full_scale
    shape = spec.outputs
    return [
        np.zeros(shape, dtype=np.int64),
        np.full(shape, top),
        rng.choice([0, 1, top // 2, top - 1, top], shape),
        rng.integers(0, top // (4 if spec.exact else 1) + 1, shape),
    ]


class Array:
    """The array's ports as NumPy arrays."""

    def __init__(self, dut, spec: BitPlaneSpec) -> None:
        self.dut = dut
        self.spec = spec
        self.act = ports.Stream(dut, "act")
        self.threshold = ports.Stream(dut, "threshold")
        self.result = ports.Stream(dut, "result")

    async def start(self) -> None:
        """Start the clock with every input idle."""
        names = ["act__valid", "act__payload", "threshold__valid", "threshold__payload"]
        names += ["result__ready", "clear", *(["mode"] if self.spec.tiles > 1 else [])]
        await ports.start(self.dut, **dict.fromkeys(names, 0))

    def stitch(self, merge: int, share: int) -> None:
        """Set the mode port."""
        if self.spec.tiles > 1:
            self.dut.mode.value = ports.pack((merge, share), self.spec.levels.bit_length())

    async def clear(self) -> None:
        """Set the counters to zero."""
        self.dut.clear.value = 1
        await FallingEdge(self.dut.clk)
        self.dut.clear.value = 0

    async def run(
        self, act: np.ndarray, idle: float = 0.0, stall: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Send vectors, shape (n, inputs); return results (n, outputs) and planes (n)."""
        spec = self.spec
        words = [ports.pack(row, spec.act_bits) for row in act.tolist()]
        source = cocotb.start_soon(self.act.put(words, idle))
        got = await self.result.get(len(words), stall)
        await source
        bits = spec.outputs * spec.result_bits
        results = [ports.unpack(word, spec.result_bits, spec.outputs) for word in got]
        return np.array(results), np.array([word >> bits for word in got])

    async def counters(self) -> dict[str, int]:
        """Return the settled counters."""
        await ports.edges(self.dut, 2)
        names = ("vectors", "array_planes", "row_planes", "zeros")
        return {name: int(getattr(self.dut, name).value) for name in names}


def compare(expected: golden.Outcome, got: tuple[np.ndarray, np.ndarray], about: str) -> None:
    """Raise when results or planes differ from the golden model."""
    for name, want, have in zip(
        ("result", "planes"), (expected.result, expected.array_planes), got, strict=True
    ):
        if not np.array_equal(want, have):
            first = np.argwhere(want != have)[0].tolist()
            where = tuple(first)
            raise AssertionError(f"{about}: {name} at {first} is {have[where]}, not {want[where]}")


@cocotb.test()
async def equals_golden(dut) -> None:
    """Results, planes and counters equal the golden model for every mode, threshold and stall."""
    spec = ports.spec()
    rng = np.random.default_rng(random.getrandbits(32))
    array = Array(dut, spec)
    await array.start()
    for T in thresholds(spec, rng):
        await array.threshold.put(T.tolist())
        for merge, share in modes(spec):
            array.stitch(merge, share)
            for idle, stall in ((0.0, 0.0), (0.6, 0.0), (0.0, 0.6), (0.5, 0.5)):
                act = vectors(spec, rng, VECTORS // 4)
                await array.clear()
                got = await array.run(act, idle, stall)
                expected = golden.transform(spec, act, T, merge, share)
                compare(expected, got, f"merge {merge}, share {share}, T {T.tolist()}")
                counts = await array.counters()
                assert counts == {
                    "vectors": len(act),
                    "array_planes": expected.array_planes.sum(),
                    "row_planes": expected.row_planes.sum(),
                    "zeros": (expected.result == 0).sum(),
                }, counts


@cocotb.test()
async def one_plane_a_clock(dut) -> None:
    """Vectors follow each other without a gap: the planes of a vector are its clocks."""
    spec = ports.spec()
    rng = np.random.default_rng(random.getrandbits(32))
    array = Array(dut, spec)
    await array.start()
    T = thresholds(spec, rng)[2]
    await array.threshold.put(T.tolist())
    act = vectors(spec, rng, VECTORS)
    dut.act__valid.value = 1
    dut.result__ready.value = 1
    array.stitch(0, 0)
    clocks, sent = [], 0
    for clock in range(len(act) * (spec.planes + 1)):
        if sent < len(act):
            dut.act__payload.value = ports.pack(act[sent].tolist(), spec.act_bits)
        await ReadOnly()
        if int(dut.act__ready.value):
            clocks.append(clock)
            sent += 1
        await FallingEdge(dut.clk)
        if sent == len(act):
            break
    expected = np.maximum(golden.transform(spec, act, T).array_planes, 1)
    assert np.array_equal(np.diff(clocks), expected[:-1]), (np.diff(clocks), expected)


@cocotb.test()
async def thresholds_wait(dut) -> None:
    """New thresholds wait for the vectors that are inside, and hold back those that are not."""
    spec = ports.spec()
    rng = np.random.default_rng(random.getrandbits(32))
    array = Array(dut, spec)
    await array.start()
    array.stitch(0, 0)
    await array.threshold.put([0] * spec.outputs)
    act = vectors(spec, rng, 4)[-2:]
    words = [ports.pack(row, spec.act_bits) for row in act.tolist()]
    await array.act.put(words[:1])
    second = [spec.full_scale // 3] * spec.outputs
    loading = cocotb.start_soon(array.threshold.put(second))
    await FallingEdge(dut.clk)
    sending = cocotb.start_soon(array.act.put(words[1:]))
    got = await array.result.get(2, stall=0.7)
    await loading
    await sending
    for word, x, T in zip(got, act, (np.zeros(spec.outputs), np.array(second)), strict=True):
        result = ports.unpack(word, spec.result_bits, spec.outputs)
        assert result == golden.transform(spec, x, T.astype(np.int64)).result.tolist()
