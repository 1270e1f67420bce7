"""The papers' table: drawn from kept results, honest where there is none."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mulfree_lab import papers
from mulfree_lab.characterise import ratio
from mulfree_lab.commands.papers import command


def design(area: float, energy: float) -> dict[str, Any]:
    return {"area_per_mac": area, "pj_per_mac": {"total": energy}, "zero_weights": 0.5}


RESULT = {"designs": {"lutna": design(100, 2), "wallace": design(150, 5), "array": design(180, 4)}}


def test_ratios_are_against_the_best_of_the_others() -> None:
    assert ratio(RESULT, "lutna", ("wallace", "array"), "area") == (1.5, "wallace")
    assert ratio(RESULT, "lutna", ("wallace", "array"), "energy") == (2.0, "array")
    assert ratio(RESULT, "pot", ("wallace",), "area") is None
    assert ratio(RESULT, "lutna", ("booth",), "area") is None


def test_the_table_is_drawn_from_kept_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(papers, "RESULTS", tmp_path)
    claim = "area, better of array and Wallace over ours, in an array"
    assert {row.claim: row.ours for row in papers.table()}[claim] == "–"
    (tmp_path / "cells_lutna_array.json").write_text(json.dumps(RESULT))
    rows = {row.claim: row.ours for row in papers.table()}
    assert rows[claim] == "1.50 ×"
    assert rows["energy, conventional MACs (an adder a product) over ours"] == "2.00 ×"


def test_what_is_counted_needs_no_result() -> None:
    rows = {row.claim: row.ours for row in papers.table()}
    assert rows["clocks of a 5-bit code"] == "SAR 5, flash 1, hybrid 4"
    assert rows["parameters saved in MobileNetV2"] == "86.0 %"
    assert rows["bit planes that early termination leaves"].startswith("1.09 of 8")


def test_json_has_every_headline_with_its_command() -> None:
    done = CliRunner().invoke(command, ["--json"], catch_exceptions=False)
    rows = json.loads(done.output)["rows"]
    assert {row["figure"] for row in rows} >= {"29.54 ×", "3.34 ×", "1.23 ×", "1.80 ×", "1.4 ×"}
    for row in rows:
        assert row["command"].startswith(("mulfree papers", "mulfree mixed")) or row["ours"] == "–"
        assert row["certainty"] in ("ABS", "CALC", "REC", "–")


@pytest.mark.parametrize("name", papers.RUNS)
def test_designs_of_a_run_have_one_shape_and_many_names(name: str) -> None:
    designs = papers.RUNS[name][0]()
    assert len({design.name for design in designs}) == len(designs) > 2
    assert len({(d.spec.outputs, d.spec.lanes) for d in designs}) == 1
