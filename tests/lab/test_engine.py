"""The engine that is routed for a large ECP5: what is around it, and what is said of it."""

import json

import numpy as np

from mulfree.engine.layers import EngineShape
from mulfree.engine.network import NetworkSpec
from mulfree.units.baseline import BaselineSpec
from mulfree_lab.engine import ENGINE, RESULT, facts, to_verilog
from mulfree_models.importers import load
from mulfree_models.lowering import lower
from tests.models.layers import chain

SMALL = NetworkSpec(
    core=BaselineSpec(outputs=4, lanes=9), scalers=2, chunk=16, map_words=128, keep_words=16
)


def test_it_stands_between_shift_registers():
    head = to_verilog(SMALL).split("module top(")[1].split(")")[0]
    assert {name.strip() for name in head.split(",")} == {"clk", "rst", "si", "so", "sel"}


def test_a_slower_clock_or_more_clocks_are_fewer_inferences(tmp_path):
    model = tmp_path / "net.tflite"
    model.write_bytes(chain(np.random.default_rng(3), ("conv", 5), ("dense", 3)).to_bytes())
    used = {"TRELLIS_COMB": 900, "TRELLIS_FF": 800, "DP16KD": 7, "MULT18X18D": 0}
    report = {
        "fmax": {"fast": {"achieved": 90.0}, "slow": {"achieved": 40.0}},
        "utilization": {name: {"used": n, "available": 10000} for name, n in used.items()},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    found = facts(SMALL, tmp_path, model)
    clocks = lower(load(model), EngineShape.of(SMALL)).cycles(SMALL)
    assert found["clocks"] == clocks
    assert found["fmax_mhz"] == 40.0
    assert found["inferences_per_second"] == round(40e6 / clocks)
    assert (found["lut"], found["ff"], found["ram"], found["dsp"]) == (900, 800, 7, 0)


def test_the_kept_result_is_of_the_present_engine():
    assert json.loads(RESULT.read_text())["spec"] == ENGINE.to_dict()


def test_the_kept_clocks_are_those_of_the_model(shared_data):
    kept = json.loads(RESULT.read_text())
    model = shared_data / "mlperf_tiny_resnet8" / "pretrainedResnet_quant.tflite"
    program = lower(load(model), EngineShape.of(ENGINE))
    assert kept["clocks"] == program.cycles(ENGINE)
