"""The kept figures of ResNet-8 on a ULX3S-85F: of today's engine, as ``make engine`` builds it."""

import json
import subprocess
import sys

import pytest

from mulfree import cli
from tests.conftest import ROOT

RESULT = ROOT / "docs" / "results" / "resnet8_ulx3s-85f.json"


@pytest.fixture(scope="module")
def kept():
    return json.loads(RESULT.read_text())


def test_they_are_of_the_present_system(kept, shared_data, capsys, monkeypatch):
    model = shared_data / "mlperf_tiny_resnet8" / "pretrainedResnet_quant.tflite"
    recipe = subprocess.run(
        ["make", "-n", "engine", f"MODEL={model}"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    [command] = [line for line in recipe.splitlines() if "mulfree build" in line]
    words = command.split(" > ")[0].split()
    monkeypatch.setattr(sys, "argv", [*words, "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    planned = json.loads(capsys.readouterr().out)
    assert kept["spec"] == planned["spec"]
    assert kept["asked_mhz"] == planned["clock_mhz"]
    assert kept["network"]["cycles"] == planned["network"]["cycles"]


def test_what_they_say(kept):
    assert kept["used"]["dsp"] == 0
    assert all(kept["used"][what] <= kept["available"][what] for what in kept["used"])
    assert kept["array_cells"]["TRELLIS_COMB"] > kept["used"]["lut"] / 2
    clock = min(kept["asked_mhz"], kept["fmax_mhz"])
    rate = clock * 1e6 / kept["network"]["cycles"]
    assert kept["network"]["inferences_per_second"] == pytest.approx(rate, abs=0.1)
    assert rate >= 2432
