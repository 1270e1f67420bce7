"""The estimator: what it counts, how it fits, and how far it is off on designs it has not seen."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from mulfree.catalog import spec_class
from mulfree.spec import Spec, SpecError
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_lab.commands.estimate import command
from mulfree_lab.estimator import (
    AXES,
    BASIS,
    QUANTITIES,
    RECIPES,
    RESULTS,
    TARGETS,
    count,
    errors,
    estimate,
    features,
    fit,
    model,
)
from mulfree_lab.explore import axis, measure, plan, read
from mulfree_lab.synthesis import Synthesizer


def lut(*inputs: int) -> dict:
    return {"type": "$lut", "connections": {"A": list(inputs), "Y": [90]}}


def adder(a: list, b: list, bi: object = "0") -> dict:
    pins = {"A": a, "B": b, "BI": [bi], "Y": list(range(70, 70 + len(a)))}
    return {"type": "mulfree_adder", "connections": pins}


def counted(technology: str, *cells: dict) -> dict[str, float]:
    return count({"cells": {str(place): cell for place, cell in enumerate(cells)}}, technology)


def test_tables_are_counted_by_what_they_are_put_together_from() -> None:
    tables = lut(1), lut(1, 2), lut(1, 2, 3, 4, 5, 6), lut(*range(1, 9))
    assert counted("xc7", *tables) == {"inverters": 1, "luts": 1 + 1 + 4}
    assert counted("ecp5", *tables[:2]) == {"inverters": 1, "luts": 1}


def test_adders_are_counted_whole() -> None:
    found = counted("ecp5", adder([1, 2, 3], [4, 5, 6]), adder([1, 2], ["1", "0"]))
    assert found == {"adder": 3, "adder_fixed": 2, "adder_pairs": 4 + 2, "adders": 2}
    assert counted("ecp5", adder([1, 2], [3, 4], 9))["adder_either"] == 2


def test_cells_are_counted_by_the_rules_of_the_family() -> None:
    cells = [{"type": kind, "connections": {}} for kind in ("TRELLIS_DPR16X4", "DP16KD", "$_DFFE_")]
    assert counted("ecp5", *cells) == {"lutram": 6, "ram": 1, "ff": 1}


def test_memories_go_where_the_family_has_them() -> None:
    small = {"lanes": 2, "act_bits": 4, "weight_bits": 3}
    found = {t: features(LutNASpec(**small), t) for t in RECIPES}
    assert all(found[t]["lutram"] > 0 for t in ("ecp5", "gowin", "xc7"))
    assert "lutram" not in found["ice40"]  # flip-flops, or block RAM behind the look-up's register
    assert found["ice40"].get("ram") or found["ice40"]["ff"] > 2 * found["ecp5"]["ff"]
    assert features(LutNASpec(tables="block", **small), "ecp5")["ram"] > 0


def test_features_grow_with_the_design() -> None:
    one, two = (features(PoTSpec(lanes=lanes), "ecp5") for lanes in (2, 4))
    assert all(two[name] > one[name] for name in ("luts", "adder", "ff"))


def test_fit_finds_the_coefficients_of_a_sum() -> None:
    rng = np.random.default_rng(5)
    designs = [
        {"luts": float(a), "adder": float(b), "lutram": float(c)}
        for a, b, c in rng.integers(1, 300, (40, 3))
    ]
    truth = [round(0.9 * d["luts"] + 1.1 * d["adder"] + 1.2 * d["lutram"]) for d in designs]
    truth[3] *= 4  # one that no sum describes must not pull the others away
    found = fit(designs, truth, BASIS["lut_equivalents"])
    off = errors(found, designs, truth)
    assert np.median(off) < 0.01
    assert np.delete(off, 3).max() < 0.05
    assert all(c >= 0 for c in found.values())


def test_the_claimed_errors_are_those_of_the_points() -> None:
    claimed = json.loads((RESULTS / "estimator.json").read_text())
    points = claimed["points"]
    off = [abs(p["estimated"] - p["measured"]) / p["measured"] for p in points]
    assert claimed["held_out"] == len(points) >= 40
    assert claimed["median"] == pytest.approx(np.median(off), abs=1e-3)
    assert claimed["p95"] == pytest.approx(np.quantile(off, 0.95), abs=1e-3)
    measured = {r["id"]: r for r in read(RESULTS / "sweep.jsonl")}
    for p in points:
        assert measured[p["id"]]["lut_equivalents"] == p["measured"]


def test_it_says_what_it_said_of_points_held_out() -> None:
    claimed = json.loads((RESULTS / "estimator.json").read_text())["points"]
    measured = {r["id"]: r for r in read(RESULTS / "sweep.jsonl")}
    for p in claimed[:: len(claimed) // 4]:
        found = estimate(Spec.from_dict(measured[p["id"]]["spec"]), p["target"])
        # The point was estimated without its fold; the model has seen all, which moves it a little.
        assert found.lut_equivalents == pytest.approx(p["estimated"], rel=0.15, abs=5)


def fresh_errors(designs: int, seed: int, target: str) -> dict[str, np.ndarray]:
    """Errors on designs of another draw than the sweep's, synthesised now."""
    kind = spec_class("array")
    axes = [axis(kind, text) for text in AXES]
    points = plan(kind, {}, axes, [target], RECIPES[target], designs, seed).points
    small = [p for p in points if p.spec.core.outputs * p.spec.core.lanes <= 6]
    found: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for point in small:
        said, is_ = estimate(point.spec, target), measure(point, Synthesizer(1))
        for name in QUANTITIES:
            found[name].append(abs(getattr(said, name) - is_[name]) / max(1, is_[name]))
    return {name: np.array(off) for name, off in found.items()}


def test_it_predicts_fresh_designs() -> None:
    off = fresh_errors(9, 1001, "gowin")
    print("errors:", off)
    assert len(off["ff"]) >= 4
    assert np.median(off["lut_equivalents"]) <= 0.05
    assert off["ff"].max() <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ecp5", "gowin"])
def test_it_predicts_many_fresh_designs(target: str) -> None:
    off = fresh_errors(45, 1002, target)
    own = model()["targets"][target]["errors"]["lut_equivalents"]
    print(f"{target}: median {np.median(off['lut_equivalents']):.3f}, claimed {own['median']}")
    assert np.median(off["lut_equivalents"]) <= 1.6 * own["median"]


def test_beyond_the_sweep_it_says_so() -> None:
    assert estimate(PoTSpec(), "ecp5").beyond == ()
    far = estimate(BaselineSpec(act_bits=16, weight_bits=16, lanes=4, form="array"), "ecp5")
    assert "luts" in far.beyond


def test_unknown_target() -> None:
    with pytest.raises(SpecError, match=r"target must be one of .*, not 'xcup'"):
        estimate(PoTSpec(), "xcup")
    result = CliRunner().invoke(command, ["pot", "--target", "xcup"])
    assert result.exit_code == 2
    assert "not 'xcup'" in result.output


def test_command() -> None:
    result = CliRunner().invoke(command, ["pot", "--lanes", "2", "--target", TARGETS, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["estimates"]
    assert [e["target"] for e in found] == TARGETS.split(",")
    assert all(e["lut_equivalents"] > 20 and e["ff"] > 20 and e["ram"] == 0 for e in found)
    shown = CliRunner().invoke(command, ["pot", "--lanes", "2"])
    assert str(found[0]["lut_equivalents"]) in shown.output
