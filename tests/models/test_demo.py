import dataclasses
import json

import pytest
from click.testing import CliRunner

from mulfree_models.commands import demo
from mulfree_sim import runner

SIMULATOR = "icarus" if runner.available("icarus") else "verilator"


def run(folder, *arguments):
    common = ["--simulator", SIMULATOR, "--output", str(folder)]
    return CliRunner().invoke(demo.command, [*common, *arguments], catch_exceptions=False)


def test_demo_agrees_with_golden(tmp_path):
    result = run(tmp_path, "--images", "3", "--batch", "2", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["outputs"] == 3 * (32 + 10)
    assert facts["mismatches"] == 0
    assert facts["rtl_accuracy"] == facts["int8_accuracy"]
    assert facts["spec"]["core"]["unit"] == "lutna"
    assert (tmp_path / "mulfree_dense.v").exists()
    assert (tmp_path / "mulfree_dense.json").exists()


@pytest.mark.slow
def test_every_held_out_image(tmp_path):
    """The whole run under Verilator: accuracy within a point of float, no output differs."""
    result = run(tmp_path, "--simulator", "verilator", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["images"] == 360
    assert facts["outputs"] == 360 * (32 + 10)
    assert facts["mismatches"] == 0
    assert abs(facts["rtl_accuracy"] - facts["float_accuracy"]) <= 1


def test_demo_notices_a_fault(tmp_path, monkeypatch):
    """One wrong bit of one bias in the hardware is found, shown, and ends with exit code 1."""
    sound = demo.hardware_layer

    def faulty(spec, layer, act):
        sent = sound(spec, layer, act)
        bias = sent.parameters.bias.copy()
        bias[3] ^= 1 << 14
        return dataclasses.replace(sent, parameters=dataclasses.replace(sent.parameters, bias=bias))

    monkeypatch.setattr(demo, "hardware_layer", faulty)
    result = run(tmp_path, "--kind", "baseline", "--images", "2", "--batch", "2", "--lanes", "16")
    assert result.exit_code == 1
    assert "read as" in result.stdout
    line = next(line for line in result.stdout.splitlines() if "outputs that differ" in line)
    assert int(line.split()[3]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--outputs", "0"], "outputs must be between 1 and 256, not 0"),
        (["--batch", "5000"], "batch must be between 1 and 1024, not 5000"),
        (["--images", "361"], "images must be between 1 and 360, not 361"),
        (["--seed", "-1"], "seed must be between 0 and 4294967295, not -1"),
        (["--kind", "cordic"], "'cordic' is not one of"),
    ],
)
def test_demo_refuses(tmp_path, arguments, message):
    result = run(tmp_path, *arguments)
    assert result.exit_code == 2
    assert message in result.output
