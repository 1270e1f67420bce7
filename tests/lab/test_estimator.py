"""The estimator: what it counts, how it fits, and how far it is off on designs it has not seen."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from mulfree.catalog import spec_class
from mulfree.spec import Spec, SpecError
from mulfree.units.baseline import BaselineSpec
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
    pack,
)
from mulfree_lab.explore import axis, measure, plan, read
from mulfree_lab.synthesis import Synthesizer


def module(**gates: tuple[str, list[int]]) -> dict:
    """A module of gates, named by output net, of nets 1…9 that come from ports; `n99` is read."""
    cells = {}
    for name, (kind, inputs) in gates.items():
        pins = {letter: [net] for letter, net in zip("ABS", inputs, strict=False)}
        cells[name] = {
            "type": f"$_{kind}_", "parameters": {}, "port_directions": {},
            "connections": pins | {"Y": [int(name[1:])]},
        }  # fmt: skip
    return {"cells": cells, "ports": {"out": {"direction": "output", "bits": [99]}}}


def test_gates_that_drive_one_gate_share_its_table() -> None:
    chain = module(
        n10=("AND", [1, 2]), n11=("XOR", [10, 3]), n12=("OR", [11, 4]), n99=("AND", [12, 5])
    )
    assert pack(chain, 4) == 2
    assert pack(chain, 6) == 1


def test_gates_that_drive_several_keep_a_table() -> None:
    shared = module(
        n10=("AND", [1, 2]), n11=("XOR", [10, 3]), n12=("XOR", [10, 4]), n99=("OR", [11, 12])
    )
    assert pack(shared, 4) == 2
    assert pack(shared, 2) == 4


def test_inverters_are_free() -> None:
    inverted = module(n10=("NOT", [1]), n11=("AND", [10, 2]), n12=("AND", [10, 3]),
                      n99=("OR", [11, 12]))  # fmt: skip
    assert pack(inverted, 4) == 1


def test_order_of_cells_does_not_matter() -> None:
    gates = {"n10": ("AND", [1, 2]), "n11": ("XOR", [10, 3]), "n99": ("OR", [11, 4])}
    assert pack(module(**gates), 4) == pack(module(**dict(reversed(gates.items()))), 4) == 1


def test_adders_and_memories_are_counted_whole() -> None:
    bits = {"A": [1, 2, 3], "B": [4, 5, 6], "BI": ["0"], "Y": [7, 8, 9]}
    memory = {
        "WIDTH": "1001", "SIZE": "10000", "WR_PORTS": "1", "RD_PORTS": "1", "RD_CLK_ENABLE": "0",
        "ABITS": "100",
    }  # fmt: skip
    written = {"WR_ADDR": [31, 32, 33, 34], "WR_EN": [35] * 9, "WR_DATA": list(range(41, 50))}

    def table(address: list[int]) -> dict:
        pins = written | {"RD_ADDR": address}
        return {"type": "$mem_v2", "parameters": memory, "connections": pins, "port_directions": {}}

    cells = {
        "sum": {
            "type": "$alu", "parameters": {"Y_WIDTH": "11"}, "connections": bits,
            "port_directions": {"A": "input", "B": "input", "BI": "input", "Y": "output"},
        },
        "first": table([51, 52, 53, 54]), "second": table([61, 62, 63, 64]),
    }  # fmt: skip
    found = count({"cells": cells, "ports": {}})
    assert found["adder"] == 3
    assert found["adder_pairs"] == 4
    assert found["open_16x4"] == 2 * 3
    assert found["open_32x6"] == 2 * 2
    assert found["open_deep_16"] == 0
    # Both hold the same, so that flip-flops are shared; what reads them is not.
    assert found["open_stored"] == 9 * 16
    assert found["open_words"] == 16
    assert found["open_choices"] == 2 * 9 * 15


def test_inverters_before_what_cannot_take_them_in() -> None:
    inverted = module(n10=("NOT", [1]), n11=("NOT", [2]), n12=("NOT", [3]), n99=("AND", [12, 4]))
    inverted["cells"] |= {
        "sum": {
            "type": "$alu", "parameters": {"Y_WIDTH": "1"}, "port_directions": {"A": "input"},
            "connections": {"A": [10], "B": [10], "Y": [20]},
        },
        "flop": {
            "type": "$_DFF_P_", "parameters": {}, "port_directions": {"D": "input"},
            "connections": {"D": [11], "Q": [21]},
        },
    }  # fmt: skip
    found = count(inverted)
    assert found["inverted_addends"] == 1
    assert found["inverted"] == 1


def test_features_grow_with_the_design() -> None:
    one, two = features(PoTSpec(lanes=2)), features(PoTSpec(lanes=4))
    assert all(two[name] > one[name] for name in ("lut4", "adder", "ff"))


def test_fit_finds_the_coefficients_of_a_sum() -> None:
    rng = np.random.default_rng(5)
    designs = [
        {"lut4": float(a), "adder": float(b), "clocked_16x4": float(c)}
        for a, b, c in rng.integers(1, 300, (40, 3))
    ]
    truth = [round(0.7 * d["lut4"] + 1.1 * d["adder"] + 6 * d["clocked_16x4"]) for d in designs]
    truth[3] *= 4  # one that no sum describes must not pull the others away
    found = fit(designs, truth, BASIS["lut_equivalents"]["ecp5"])
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
    assert np.median(off["lut_equivalents"]) <= 0.15
    assert off["ff"].max() <= 0.1


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
    assert "lut4" in far.beyond


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
