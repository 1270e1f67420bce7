import numpy as np
import pytest
from amaranth.hdl import Module, Value

from mulfree.formats.planes import hadamard, signed_digits
from mulfree.spec import Spec, SpecError
from mulfree.units.bitplane import BitPlaneSpec, Row
from mulfree_sim import formal, runner
from mulfree_sim.formal.bitplane import proofs
from mulfree_sim.golden import bitplane as golden

SEED = 20260


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def test_spec_errors() -> None:
    with pytest.raises(SpecError, match=r"^planes must be between 1 and 15, not 16$"):
        BitPlaneSpec(planes=16)
    with pytest.raises(SpecError, match=r"^tiles must be a power of two, not 3$"):
        BitPlaneSpec(tiles=3)
    sentence = r"^rows and columns of stitched tiles must be one power of two, not 8 x 16$"
    with pytest.raises(SpecError, match=sentence):
        BitPlaneSpec(tiles=2, rows=8)
    with pytest.raises(TypeError, match=r"^exact must be true or false, not 1$"):
        BitPlaneSpec(exact=1)


def test_spec_round_trip_and_widths() -> None:
    spec = BitPlaneSpec(tiles=8)
    assert Spec.from_json(spec.to_json()) == spec
    assert (spec.inputs, spec.outputs, spec.levels) == (128, 128, 3)
    assert (spec.act_bits, spec.threshold_bits, spec.result_bits) == (9, 8, 9)
    exact = BitPlaneSpec(exact=True)
    assert exact.full_scale == 16 * 255
    assert (exact.threshold_bits, exact.result_bits) == (12, 13)


@pytest.mark.parametrize("points", [1, 2, 16, 128])
def test_hadamard(points: int) -> None:
    H = hadamard(points)
    assert np.array_equal(H @ H, points * np.eye(points, dtype=int))
    if points > 1:
        half = hadamard(points // 2)
        assert np.array_equal(H, np.block([[half, half], [half, -half]]))


def test_signed_digits_sum_to_the_value() -> None:
    values = np.arange(-16, 16)
    places = 1 << np.arange(3, -1, -1)
    assert np.array_equal(places @ signed_digits(values, 4), np.maximum(values, -15))


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (5, 12), (12, 5)])
def test_exact_is_the_dense_product(rng: np.random.Generator, rows: int, columns: int) -> None:
    spec = BitPlaneSpec(rows=rows, columns=columns, exact=True)
    x = rng.integers(-255, 256, (100, columns))
    H = np.array([[(-1) ** (i & j).bit_count() for j in range(columns)] for i in range(rows)])
    outcome = golden.transform(spec, x, np.zeros(rows))
    assert np.array_equal(outcome.result, x @ H.T)


def test_ternary_by_hand() -> None:
    # 5 = 101, -3 = -011: sums of row 0: 1, -1, 0; of row 1: 1, 1, 2.
    spec = BitPlaneSpec(rows=2, columns=2, planes=3)
    outcome = golden.transform(spec, [5, -3], [1, 5])
    assert outcome.result.tolist() == [4 - 2 - 1, 4 + 2 + 1 - 5]
    # With T = 5 the first row is lost once |4 - 2| + 1 <= 5.
    assert golden.transform(spec, [5, -3], [5, 5]).row_planes.tolist() == [2, 3]
    # Full scale needs no plane at all.
    assert golden.transform(spec, [5, -3], [7, 7]).array_planes == 0


@pytest.mark.parametrize("exact", [False, True])
def test_early_termination_never_changes_a_result(rng: np.random.Generator, exact: bool) -> None:
    """A million rows, thresholds over the whole range, against the plain formula."""
    spec = BitPlaneSpec(exact=exact)
    rows = 0
    for scale in (2, 8, 30, 90):
        x = np.rint(rng.laplace(0, scale, (1600, 16))).astype(int)
        for _ in range(10):
            T = rng.integers(0, spec.full_scale + 1, 16)
            got = golden.transform(spec, x, T)
            digits = golden.plane_sums(spec, x)
            digits = digits if exact else np.sign(digits)
            S = np.tensordot(1 << np.arange(7, -1, -1), digits, 1)
            assert np.array_equal(got.result, np.sign(S) * np.maximum(abs(S) - T, 0))
            # A row with a result needs every plane.
            assert (got.row_planes[got.result != 0] == 8).all()
            assert (got.row_planes < 8).any()
            rows += got.result.size
    assert rows > 1_000_000


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("merge", [1, 2, 3])
def test_stitched_tiles_equal_one_engine(rng: np.random.Generator, merge: int, exact: bool) -> None:
    """16 × 16 tiles as one transform of 32, 64 or 128 points, side by side where room is left."""
    points = 16 << merge
    tiles = BitPlaneSpec(tiles=8, exact=exact)
    engine = BitPlaneSpec(rows=points, columns=points, exact=exact)
    x = rng.integers(-255, 256, (50, 128))
    T = rng.integers(0, engine.full_scale // (16 if exact else 1), 128)
    got = golden.transform(tiles, x, T, merge=merge)
    for at in range(0, 128, points):
        part = slice(at, at + points)
        alone = golden.transform(engine, x[:, part], T[part])
        assert np.array_equal(got.result[:, part], alone.result)
        assert np.array_equal(got.row_planes[:, part], alone.row_planes)


def test_sharing_gives_one_input_to_several_tiles(rng: np.random.Generator) -> None:
    tiles, one = BitPlaneSpec(tiles=4), BitPlaneSpec()
    x = rng.integers(-255, 256, (20, 64))
    T = rng.integers(0, 200, 64)
    got = golden.transform(tiles, x, T, share=1)
    for tile in range(4):
        at, source = tile * 16, (tile & ~1) * 16
        alone = golden.transform(one, x[:, source : source + 16], T[at : at + 16])
        assert np.array_equal(got.result[:, at : at + 16], alone.result)


@pytest.mark.parametrize(
    "spec",
    [
        BitPlaneSpec(rows=4, columns=4, planes=4),
        BitPlaneSpec(rows=1, columns=1, planes=1),
        BitPlaneSpec(rows=3, columns=5, planes=5, counter_bits=16),
        BitPlaneSpec(rows=5, columns=3, planes=2, exact=True),
        BitPlaneSpec(rows=4, columns=4, tiles=4, planes=3),
        BitPlaneSpec(rows=2, columns=2, tiles=4, planes=4, exact=True),
    ],
    ids=lambda spec: f"{spec.tiles}x{spec.rows}x{spec.columns}x{spec.planes}-{spec.exact}",
)
def test_rtl(spec: BitPlaneSpec) -> None:
    result = runner.regress(spec, simulator="icarus", seed=SEED)
    assert result.passed, result.log[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("tiles", [1, 2, 4, 8])
def test_rtl_16_to_128_points(tiles: int, exact: bool) -> None:
    result = runner.regress(BitPlaneSpec(tiles=tiles, exact=exact), seed=SEED)
    assert result.passed, result.log[-2000:]


@pytest.mark.parametrize(
    "spec",
    [
        BitPlaneSpec(planes=4),
        BitPlaneSpec(rows=4, columns=4, planes=3, exact=True),
        pytest.param(BitPlaneSpec(), marks=pytest.mark.slow),
        pytest.param(
            BitPlaneSpec(rows=4, columns=4, tiles=2, planes=4, exact=True), marks=pytest.mark.slow
        ),
    ],
    ids=lambda spec: f"{spec.planes}-{spec.exact}",
)
def test_early_termination_is_proved(spec: BitPlaneSpec) -> None:
    for result in formal.prove(spec):
        assert result.proved, result.log[-2000:]


class HastyRow(Row):
    """A row that believes that a plane adds less than it can."""

    def _weight(self, m: Module) -> Value:
        return Value.cast(super()._weight(m)) - 1


def test_a_row_that_stops_too_early_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mulfree_sim.formal.bitplane.Row", HastyRow)
    (proof,) = proofs(BitPlaneSpec(planes=3))
    assert formal.run(proof).status == "refuted"
