"""Bench of the Walsh-Hadamard transforms in every form."""

import random

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly, Timer

from mulfree.units.wht import TransformSpec
from mulfree_sim.benches import ports
from mulfree_sim.golden import wht

#: Spaces of up to this many bits a vector are tried whole.
EXHAUSTIVE_BITS = 16
#: Samples sent in a random run, about.
SAMPLES = 4000
#: (source idle, sink stall): each alone, both, neither.
STALLS = ((0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.3, 0.3))


def vectors(spec: TransformSpec, count: int, whole: bool = False) -> np.ndarray:
    """Return vectors to try, shape (n, in_length): all of a small space if `whole`, else some."""
    rng = np.random.default_rng(random.getrandbits(32))
    coding, length = spec.sample_format, spec.in_length
    if whole and length * spec.bits <= EXHAUSTIVE_BITS:
        grids = np.meshgrid(*[coding.values()] * length, indexing="ij")
        return np.stack([g.ravel() for g in grids], -1)
    rows = wht.hadamard(spec.size)[rng.integers(spec.size, size=2)]
    rows = np.resize(rows, (2, length))
    corners = [np.full(length, coding.low), np.full(length, coding.high)]
    corners += [np.where(row > 0, coding.high, coding.low) for row in rows]  # the largest sums
    corners += [np.where(row > 0, coding.low, coding.high) for row in rows]
    return np.concatenate([corners, rng.integers(coding.low, coding.high + 1, (count, length))])


def compare(spec: TransformSpec, given: np.ndarray, got: np.ndarray) -> None:
    """Raise unless every result is the golden model's."""
    expected = wht.transform(spec, given)
    wrong = np.flatnonzero((got != expected).any(axis=1))
    if wrong.size:
        first = wrong[0]
        raise AssertionError(
            f"{wrong.size} of {len(given)} vectors differ; samples {given[first].tolist()}: "
            f"{got[first].tolist()}, not {expected[first].tolist()}"
        )


def to_beats(vectors: np.ndarray, lanes: int, bits: int, serial: bool) -> list[int]:
    """Return vectors (n, length) as the payloads of beats."""
    groups = vectors.reshape(-1, lanes)
    if not serial:
        return [ports.pack(group, bits) for group in groups.tolist()]
    planes = groups[:, None, :] >> np.arange(bits)[:, None] & 1
    return [ports.pack(plane, 1) for plane in planes.reshape(-1, lanes).tolist()]


def from_beats(beats: list[int], length: int, lanes: int, bits: int, serial: bool) -> np.ndarray:
    """Return the vectors (n, length) that beats carry, two's complement."""
    if not serial:
        return np.array([ports.unpack(b, bits, lanes) for b in beats]).reshape(-1, length)
    planes = np.array([ports.unpack(b, 1, lanes, signed=False) for b in beats])
    weights = 1 << np.arange(bits)
    weights[-1] = -weights[-1]
    words = (planes.reshape(-1, bits, lanes) * weights[:, None]).sum(axis=1)
    return words.reshape(-1, length)


async def parallel(dut, spec: TransformSpec, given: np.ndarray, stall: float) -> np.ndarray:
    """Send one vector an enabled edge and return the results."""
    latency = spec.latency
    assert latency is not None
    words = [ports.pack(row, spec.bits) for row in given.tolist()]
    results = []
    if latency == 0:
        for word in words:
            dut.sample.value = word
            await Timer(1, unit="ns")
            results.append(int(dut.result.value))
    else:
        for step in range(len(words) + latency):
            while random.random() < stall:
                dut.en.value = 0
                await FallingEdge(dut.clk)
            dut.en.value = 1
            if step < len(words):
                dut.sample.value = words[step]
            await ReadOnly()
            if step >= latency:
                results.append(int(dut.result.value))
            await FallingEdge(dut.clk)
    return np.array([ports.unpack(r, spec.result_bits, spec.out_length) for r in results])


async def streamed(
    dut, spec: TransformSpec, given: np.ndarray, idle: float, stall: float
) -> np.ndarray:
    """Send vectors under random idling and back-pressure and return the results."""
    serial = spec.form == "serial"
    beats = to_beats(given, spec.lanes, spec.bits, serial)
    count = len(given) * spec.out_length // spec.lanes * (spec.result_bits if serial else 1)
    watch = cocotb.start_soon(ports_rules(dut))
    put = cocotb.start_soon(ports.Stream(dut, "sample").put(beats, idle))
    got = await ports.Stream(dut, "result").get(count, stall)
    await put
    watch.cancel()
    return from_beats(got, spec.out_length, spec.lanes, spec.result_bits, serial)


async def ports_rules(dut) -> None:
    """Check on every edge that a result on offer stays until it is taken."""
    offered = None
    while True:
        await ReadOnly()
        valid, payload = int(dut.result__valid.value), dut.result__payload.value
        if offered is not None:
            assert valid, "valid fell before the transfer"
            assert payload == offered, "the payload changed before the transfer"
        offered = payload if valid and not int(dut.result__ready.value) else None
        await FallingEdge(dut.clk)


@cocotb.test()
async def equals_golden(dut) -> None:
    """Every transform equals the golden model, under every mix of idling and stalls."""
    spec = ports.spec()
    count = max(3, SAMPLES // spec.padded // (spec.bits if spec.form == "serial" else 1))
    if spec.form == "parallel":
        if spec.latency:
            await ports.start(dut, en=0, sample=0)
        for stall in (0.0, 0.3) if spec.latency else (0.0,):
            given = vectors(spec, count, whole=stall == 0)
            compare(spec, given, await parallel(dut, spec, given, stall))
        return
    await ports.start(dut, sample__valid=0, sample__payload=0, result__ready=0)
    for idle, stall in STALLS:
        given = vectors(spec, count // 4 + 1, whole=idle == stall == 0)
        compare(spec, given, await streamed(dut, spec, given, idle, stall))
