"""Bench of the frequency layer."""

import random

import cocotb
import numpy as np

from mulfree.units.freqlayer import FreqLayerSpec
from mulfree_sim.benches import ports
from mulfree_sim.benches.wht import STALLS, from_beats, ports_rules, to_beats
from mulfree_sim.golden import freqlayer

#: Samples sent in a run, about.
SAMPLES = 2000


def draw(spec: FreqLayerSpec, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return random thresholds, from none to all but the largest value, and gains."""
    count = spec.coefficients
    thresholds = rng.integers(0, 1 << rng.integers(1, spec.threshold_bits + 1, count))
    gains = rng.choice(spec.gain_format.values(), count)
    return thresholds, gains


def parameter_beats(spec: FreqLayerSpec, thresholds: np.ndarray, gains: np.ndarray) -> list[int]:
    """Return the payloads that load the parameters."""
    if spec.gain == "none":
        return thresholds.tolist()
    pairs = zip(thresholds.tolist(), gains.tolist(), strict=True)
    return [t | spec.gain_code(g) << spec.threshold_bits for t, g in pairs]


@cocotb.test()
async def equals_golden(dut) -> None:
    """Every result equals the golden model, under every mix of idling and stalls."""
    spec = ports.spec()
    rng = np.random.default_rng(random.getrandbits(32))
    idle = {"parameter__valid": 0, "parameter__payload": 0}
    await ports.start(
        dut, sample__valid=0, sample__payload=0, result__ready=0,
        **(idle if spec.parameters == "loadable" else {}),
    )  # fmt: skip
    coding, lanes = spec.sample_format, spec.samples_per_cycle
    for source, sink in STALLS:
        thresholds, gains = draw(spec, rng)
        if spec.parameters == "loadable":
            beats = parameter_beats(spec, thresholds, gains)
            await ports.Stream(dut, "parameter").put(beats)
        shape = max(2, SAMPLES // spec.coefficients // len(STALLS)), spec.channels
        given = rng.integers(coding.low, coding.high + 1, shape)
        given[0], given[1] = coding.low, coding.high
        watch = cocotb.start_soon(ports_rules(dut))
        words = to_beats(given, lanes, spec.bits, serial=False)
        put = cocotb.start_soon(ports.Stream(dut, "sample").put(words, source))
        words = await ports.Stream(dut, "result").get(given.size // lanes, sink)
        await put
        watch.cancel()
        got = from_beats(words, spec.channels, lanes, spec.result_bits, serial=False)
        expected = freqlayer.layer(spec, given, thresholds, gains)
        wrong = np.flatnonzero((got != expected).any(axis=1))
        assert not wrong.size, (
            f"{wrong.size} of {len(given)} vectors differ; {given[wrong[0]].tolist()}: "
            f"{got[wrong[0]].tolist()}, not {expected[wrong[0]].tolist()}"
        )
