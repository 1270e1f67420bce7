"""Bench of the requantizer: parameter sets in turn, every mix of idle source and stuck sink."""

import random

import cocotb
import numpy as np

from mulfree.engine.requantizer import RequantizerSpec
from mulfree.formats import Int
from mulfree_sim.benches import ports
from mulfree_sim.golden import requantizer as golden

#: All accumulators × multipliers × shifts are tried when they are so few.
EXHAUSTIVE = 1 << 12
#: Parameter sets tried otherwise, and accumulators with each.
SETS, ACCUMULATORS = 3, 48


def parameter_sets(
    spec: RequantizerSpec, rng: np.random.Generator
) -> list[golden.ChannelParameters]:
    """Return parameter sets: every (multiplier, shift), or corners and random ones."""
    if is_small(spec):
        shifts = np.arange(-spec.right_shift, spec.left_shift + 1)
        top = 1 << spec.multiplier_bits
        m, s = (g.ravel() for g in np.meshgrid([0, *range(top // 2, top)], shifts))
        fill = -len(m) % spec.channels
        m, s = np.append(m, m[:fill]), np.append(s, s[:fill])
        cut = range(0, len(m), spec.channels)
        sets = ((x[i : i + spec.channels] for x in (np.zeros_like(m), m, s)) for i in cut)
        return [golden.ChannelParameters(*one) for one in sets]
    sizes = [spec.channels] * (SETS - 1) + [int(rng.integers(1, spec.channels + 1))]
    return [random_parameters(spec, size, rng) for size in sizes]


def random_parameters(
    spec: RequantizerSpec, channels: int, rng: np.random.Generator
) -> golden.ChannelParameters:
    """Return random parameters of a layer."""
    top = 1 << spec.multiplier_bits
    multiplier = rng.integers(top // 2, top, channels)  # TFLite's are normalised
    multiplier[rng.random(channels) < 0.1] = rng.choice([0, top // 2, top - 1])
    return golden.ChannelParameters(
        bias=scaled_random(spec.acc_bits, channels, rng),
        multiplier=multiplier,
        shift=rng.integers(-spec.right_shift, spec.left_shift + 1, channels),
    )


def is_small(spec: RequantizerSpec) -> bool:
    """Whether everything can be tried."""
    shifts = spec.right_shift + spec.left_shift + 1
    return shifts << (spec.acc_bits + spec.multiplier_bits) <= EXHAUSTIVE


def scaled_random(bits: int, shape: object, rng: np.random.Generator) -> np.ndarray:
    """Return integers of every magnitude, not only of the largest."""
    whole = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape)
    return whole >> rng.integers(0, bits, shape)


def accumulators(spec: RequantizerSpec, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Return the accumulators to try with one set, shape (n, channels)."""
    acc = Int(spec.acc_bits)
    if is_small(spec):
        return np.repeat(acc.values()[:, None], channels, axis=1)
    corners = rng.choice([acc.low, acc.high, -1, 0, 1], (2, channels))
    return np.concatenate(
        [corners, scaled_random(spec.acc_bits, (-(-ACCUMULATORS // channels), channels), rng)]
    )


def parameter_words(spec: RequantizerSpec, parameters: golden.ChannelParameters) -> list[int]:
    """Return the payloads that load a set."""
    layout = spec.parameter_layout
    rows = zip(parameters.bias, parameters.multiplier, parameters.shift, strict=True)
    count = len(parameters.bias)
    return [
        layout.const(
            {"bias": int(b), "multiplier": int(m), "shift": int(s), "last": i == count - 1}
        )
        .as_value()
        .value
        for i, (b, m, s) in enumerate(rows)
    ]


async def check(dut, idle: float, stall: float) -> None:
    """Load sets and compare every output with the golden model."""
    spec: RequantizerSpec = ports.spec()
    rng = np.random.default_rng(random.getrandbits(32))
    await ports.start(
        dut,
        parameter__valid=0,
        parameter__payload=0,
        acc__valid=0,
        acc__payload=0,
        out__ready=0,
        zero_point=0,
        low=0,
        high=0,
    )
    source, sink = ports.Stream(dut, "acc"), ports.Stream(dut, "out")
    group_at = spec.lanes * spec.acc_bits
    for parameters in parameter_sets(spec, rng):
        low, high = np.sort(rng.integers(spec.out_range[0], spec.out_range[1] + 1, 2))
        zero_point = rng.integers(spec.out_range[0], spec.out_range[1] + 1)
        if rng.random() < 0.5:
            low, high = spec.out_range
        mask = (1 << spec.out_bits) - 1
        dut.low.value, dut.high.value = int(low) & mask, int(high) & mask
        dut.zero_point.value = int(zero_point) & mask
        await ports.Stream(dut, "parameter").put(parameter_words(spec, parameters), idle)
        channels = len(parameters.bias)
        acc = accumulators(spec, channels, rng)
        expected = golden.requantize(spec, acc, parameters, int(zero_point), int(low), int(high))
        groups = -(-channels // spec.lanes)
        spare = groups * spec.lanes - channels  # lanes without a channel in the last group
        beats = np.pad(acc, ((0, 0), (0, spare))).reshape(len(acc), groups, spec.lanes)
        words = [
            ports.pack(beat, spec.acc_bits) | (group << group_at)
            for row in beats.tolist()
            for group, beat in enumerate(row)
        ]
        feeding = cocotb.start_soon(source.put(words, idle))
        got = [
            ports.unpack(word, spec.out_bits, spec.lanes, spec.out_signed)
            for word in await sink.get(len(words), stall)
        ]
        await feeding
        outputs = np.array(got).reshape(len(acc), groups * spec.lanes)[:, :channels]
        wrong = np.argwhere(outputs != expected)
        if len(wrong):
            n, c = wrong[0]
            raise AssertionError(
                f"{len(wrong)} of {expected.size} outputs differ; acc {acc[n, c]}, "
                f"bias {parameters.bias[c]}, multiplier {parameters.multiplier[c]}, "
                f"shift {parameters.shift[c]}, zero point {zero_point}, range {low}…{high}: "
                f"{outputs[n, c]}, not {expected[n, c]}"
            )


@cocotb.test()
@cocotb.parametrize(idle=[0.0, 0.4], stall=[0.0, 0.4])
async def equals_golden(dut, idle: float, stall: float) -> None:
    """Every output equals the golden model, in order, whatever source and sink do."""
    await check(dut, idle, stall)
