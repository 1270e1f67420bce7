import dataclasses

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

from mulfree.emit import component_verilog
from mulfree.spec import Spec, SpecError
from mulfree.units.wht import FORMS, TransformSpec, WHTSpec, folded, serial
from mulfree_sim import formal, runner
from mulfree_sim.golden import wht as golden

SEED = 20261


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


@pytest.mark.parametrize(
    ("sentence", "fields"),
    [
        ("points must be between 2 and 4096, not 1", {"points": 1}),
        ("points must be a power of two, not 12", {"points": 12}),
        ("points must be at most 256 in the parallel form, not 512", {"points": 512}),
        ("bits must be between 1 and 32, not 33", {"bits": 33}),
        (
            "form must be one of parallel, streaming, folded, serial, not 'systolic'",
            {"form": "systolic"},
        ),
        (
            "samples_per_cycle must be left out in the parallel form, not 4",
            {"samples_per_cycle": 4},
        ),
        (
            "samples_per_cycle must be a power of two of at most 16, not 3",
            {"form": "streaming", "samples_per_cycle": 3},
        ),
        (
            "samples_per_cycle must be a power of two of at most 8, not 16",
            {"form": "folded", "samples_per_cycle": 16},
        ),
        (
            "samples_per_cycle must divide 18 samples, not be 4",
            {"form": "streaming", "samples_per_cycle": 4, "length": 18},
        ),
        ("pipeline must be 1 in the folded form, not 2", {"form": "folded", "pipeline": 2}),
        (
            "pipeline must be at least 1 in the streaming form, not 0",
            {"form": "streaming", "pipeline": 0},
        ),
        (
            "out_bits must be left out in the serial form, not 8",
            {"form": "serial", "out_bits": 8},
        ),
        ("out_bits must be at most 12, the width of any result, not 13", {"out_bits": 13}),
    ],
)
def test_spec_errors(sentence: str, fields: dict) -> None:
    with pytest.raises(SpecError) as error:
        WHTSpec(**fields)
    assert str(error.value) == sentence


def test_widths() -> None:
    spec = WHTSpec()
    assert (spec.sum_bits, spec.result_bits, spec.latency, spec.lanes) == (12, 12, 4, 16)
    assert WHTSpec(pipeline=3).latency == 2
    assert WHTSpec(pipeline=0).latency == 0
    assert WHTSpec(form="folded").latency is None
    assert WHTSpec(signed=False).result_bits == 13
    # Half of all minus the other half, rounded up: one more than a sample's own width.
    assert WHTSpec(direction="inverse").result_bits == 9
    assert WHTSpec(direction="inverse", out_bits=8).result_bits == 8
    assert (WHTSpec(length=20).padded, WHTSpec(length=20).samples) == (32, 20)


@st.composite
def specs(draw: st.DrawFn) -> TransformSpec:
    """Any legal one-dimensional Spec of up to 32 points."""
    form = draw(st.sampled_from(FORMS))
    levels = draw(st.integers(1, 5))
    points = 1 << levels
    fields: dict = {"points": points, "bits": draw(st.integers(1, 12)), "form": form}
    fields["signed"] = draw(st.booleans())
    fields["direction"] = draw(st.sampled_from(("forward", "inverse")))
    fields["shift"] = draw(st.integers(-1, levels))
    lanes = 1
    if form != "parallel":
        lanes = 1 << draw(st.integers(0, levels - (form == "folded")))
        fields["samples_per_cycle"] = lanes
    fields["length"] = lanes * draw(st.integers(0, points // lanes + 1))
    if form in ("parallel", "streaming"):
        fields["pipeline"] = draw(st.integers(form == "streaming", levels))
    if form != "serial":
        most = WHTSpec(**fields).exact_bits
        fields["out_bits"] = draw(st.integers(0, most))
    return WHTSpec(**fields)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(specs())
def test_any_spec(spec: TransformSpec) -> None:
    """It survives JSON, its golden model is the dense product, and small hardware elaborates."""
    assert Spec.from_json(spec.to_json()) == spec
    rng = np.random.default_rng(SEED)
    low, high = spec.sample_format.low, spec.sample_format.high
    x = rng.integers(low, high + 1, (20, spec.in_length))
    # The vectors that make the largest and the smallest sums come first.
    sign = golden.hadamard(spec.size)[spec.size - 1]
    ends = [np.where(sign > 0, high, low), np.where(sign > 0, low, high)]
    x[:4] = np.resize([*ends, np.full_like(sign, low), np.full_like(sign, high)], x[:4].shape)
    wide = np.zeros((20, spec.padded), np.int64)
    wide[:, : spec.in_length] = x
    blocks = wide.reshape(20, -1, spec.size) @ golden.hadamard(spec.size)
    half = (1 << spec.round_shift) >> 1
    exact = ((blocks + half) >> spec.round_shift).reshape(20, -1)[:, : spec.out_length]
    assert exact.min() >= -(1 << (spec.exact_bits - 1))
    assert exact.max() < 1 << (spec.exact_bits - 1)
    top = 1 << (spec.result_bits - 1)
    assert np.array_equal(golden.transform(spec, x), np.clip(exact, -top, top - 1))
    if spec.padded <= 16:  # larger ones take seconds
        assert "module" in rtlil.convert(spec.component())


@pytest.mark.parametrize("levels", range(1, 13))
def test_golden_is_the_dense_product(rng: np.random.Generator, levels: int) -> None:
    points = 1 << levels
    x = rng.integers(-128, 128, (3, points))
    assert np.array_equal(golden.fast(x), x @ golden.hadamard(points))
    spec = WHTSpec(points=points, form="streaming")
    assert np.array_equal(golden.transform(spec, x), golden.fast(x))


def test_golden_exhaustively() -> None:
    for points in (2, 4):
        x = np.stack(np.meshgrid(*[np.arange(-8, 8)] * points), -1).reshape(-1, points)
        assert np.array_equal(
            golden.transform(WHTSpec(points=points, bits=4), x), x @ golden.hadamard(points)
        )


def test_golden_refuses_samples_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"^samples must be between -128 and 127, not 128$"):
        golden.transform(WHTSpec(points=2), [0, 128])


SMALL = [
    WHTSpec(points=4, bits=3),
    WHTSpec(points=2, bits=4, pipeline=0),
    WHTSpec(points=8, bits=5, signed=False, shift=2, out_bits=5, pipeline=2),
    WHTSpec(points=4, length=6, bits=4, direction="inverse"),
    WHTSpec(points=16, form="streaming"),
    WHTSpec(points=16, length=24, form="streaming", samples_per_cycle=4, pipeline=2, shift=2),
    WHTSpec(points=8, form="folded", bits=4, out_bits=5),
    WHTSpec(points=8, form="folded", samples_per_cycle=4, bits=4, direction="inverse", length=12),
    WHTSpec(points=8, form="serial", bits=4),
    WHTSpec(points=4, form="serial", bits=3, samples_per_cycle=2, shift=1, signed=False, length=6),
]


def named(spec: TransformSpec) -> str:
    return f"{spec.form}-{spec.size}x{spec.lanes}-{spec.bits}"


@pytest.mark.parametrize("spec", SMALL, ids=named)
def test_rtl(spec: WHTSpec) -> None:
    result = runner.regress(spec, simulator="icarus", seed=SEED)
    assert result.passed, result.log[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        *[WHTSpec(points=points) for points in (2, 16, 64, 256)],
        WHTSpec(points=32, bits=16, pipeline=2),
        *[WHTSpec(points=points, form="streaming") for points in (2, 4, 64, 1024, 4096)],
        *[WHTSpec(points=64, form="streaming", samples_per_cycle=n) for n in (2, 16, 64)],
        WHTSpec(points=4096, form="streaming", samples_per_cycle=8, pipeline=3, shift=6),
        *[WHTSpec(points=points, form="folded") for points in (2, 4, 16, 1024, 4096)],
        *[WHTSpec(points=64, form="folded", samples_per_cycle=n) for n in (2, 8, 32)],
        *[WHTSpec(points=points, form="serial") for points in (2, 4, 16, 256)],
        *[WHTSpec(points=16, form="serial", samples_per_cycle=n) for n in (2, 8, 16)],
    ],
    ids=named,
)
def test_rtl_at_size(spec: TransformSpec) -> None:
    result = runner.regress(spec, seed=SEED)
    assert result.passed, result.log[-2000:]


class Twice(wiring.Component):
    """Two transforms back to back."""

    port_help = {"sample": "samples", "result": "results"}

    def __init__(self, first: WHTSpec, second: WHTSpec) -> None:
        super().__init__(
            {
                "sample": In(stream.Signature(first.sample_layout)),
                "result": Out(stream.Signature(second.result_layout)),
            }
        )
        self.specs = first, second

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.first = first = self.specs[0].component()
        m.submodules.second = second = self.specs[1].component()
        wiring.connect(m, wiring.flipped(self.sample), first.sample)
        wiring.connect(m, first.result, second.sample)
        wiring.connect(m, second.result, wiring.flipped(self.result))
        return m


@pytest.mark.parametrize(("one", "other"), [("streaming", "folded"), ("folded", "streaming")])
def test_twice_is_points_times_the_vector(one: str, other: str) -> None:
    first = WHTSpec(points=16, bits=5, form=one, samples_per_cycle=2)
    second = dataclasses.replace(first, bits=first.result_bits, form=other)
    result = runner.run(
        component_verilog(Twice(first, second), "mulfree_twice", first.to_json()),
        "mulfree_twice",
        "mulfree_sim.benches.wht_twice",
        simulator="icarus",
        seed=SEED,
        environment={"MULFREE_SPEC": first.to_json()},
    )
    assert result.passed, result.log[-2000:]


def cycles_per_vector(spec: WHTSpec) -> tuple[int, int]:
    """Run without stalls; return (edges to the first result, edges from vector to vector)."""
    from amaranth.sim import Simulator

    dut = spec.component()
    per_out = spec.result_bits if spec.form == "serial" else 1
    beats, arrivals = spec.beats * per_out, []

    async def bench(ctx) -> None:
        ctx.set(dut.sample.valid, 1)
        ctx.set(dut.result.ready, 1)
        edge = 0
        while len(arrivals) < 3 * beats:
            if ctx.get(dut.result.valid):
                arrivals.append(edge)
            await ctx.tick()
            edge += 1

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return arrivals[0], arrivals[2 * beats] - arrivals[beats]


@pytest.mark.parametrize("lanes", [1, 4])
def test_cycles(lanes: int) -> None:
    """The timing that the documentation states."""
    spec = WHTSpec(points=16, form="streaming", samples_per_cycle=lanes)
    assert cycles_per_vector(spec) == (spec.beats - 1 + spec.levels, spec.beats)
    spec = WHTSpec(points=16, form="folded", samples_per_cycle=lanes)
    period = folded.cycles(spec)
    assert cycles_per_vector(spec) == (period - spec.beats, period)
    spec = WHTSpec(points=16, form="serial", samples_per_cycle=lanes)
    period = serial.cycles(spec)
    assert cycles_per_vector(spec) == (period - serial.word_bits(spec) + 1, period)


@pytest.mark.parametrize(
    "form", [FORMS[0], *[pytest.param(f, marks=pytest.mark.slow) for f in FORMS[1:]]]
)
def test_proofs(form: str) -> None:
    for result in formal.prove(WHTSpec(points=4, bits=4, form=form)):
        assert result.proved, result.log[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("points", [2, 4])
@pytest.mark.parametrize("form", FORMS)
def test_rtl_exhaustively(form: str, points: int) -> None:
    """Every vector of up to 4 points of 4 bits."""
    result = runner.regress(WHTSpec(points=points, bits=4, form=form), seed=SEED)
    assert result.passed, result.log[-2000:]
