"""PLLs: what their parameters make is what they say, within the makers' limits."""

import pytest

from mulfree.spec import SpecError
from mulfree_boards.pll import nearest


def made(technology: str, source: int, p: dict) -> tuple[float, float]:
    """Return (output, oscillator) in Hz that the parameters make, by the makers' formulas."""
    match technology:
        case "ecp5":
            oscillator = source / p["CLKI_DIV"] * p["CLKFB_DIV"] * p["CLKOP_DIV"]
            return oscillator / p["CLKOS_DIV"], oscillator
        case "ice40":
            oscillator = source * (p["DIVF"] + 1) / (p["DIVR"] + 1)
            return oscillator / 2 ** p["DIVQ"], oscillator
        case _:
            out = source * (p["FBDIV_SEL"] + 1) / (p["IDIV_SEL"] + 1)
            return out, out * p["ODIV_SEL"]


@pytest.mark.parametrize(
    ("technology", "source", "low", "high", "limits"),
    [
        ("ecp5", 25_000_000, 8, 200, (400e6, 800e6)),
        ("ice40", 12_000_000, 9, 200, (533e6, 1066e6)),
        ("gowin", 27_000_000, 6, 200, (400e6, 1200e6)),
    ],
)
def test_every_frequency(technology, source, low, high, limits):
    for mhz in range(low, high + 1):
        pll = nearest(technology, source, mhz * 1_000_000)
        out, oscillator = made(technology, source, pll.parameters)
        assert out == pytest.approx(pll.hz)
        assert abs(out / (mhz * 1e6) - 1) <= 0.05
        assert limits[0] <= oscillator <= limits[1]


def test_published_settings():
    # icepll -i 12 -o 48 and ecppll -i 25 -o 50 give the same frequencies.
    assert nearest("ice40", 12_000_000, 48_000_000).parameters == {
        "FEEDBACK_PATH": "SIMPLE", "DIVR": 0, "DIVF": 63, "DIVQ": 4, "FILTER_RANGE": 1,
    }  # fmt: skip
    assert nearest("ecp5", 25_000_000, 50_000_000).hz == 50e6


def test_out_of_reach():
    with pytest.raises(
        SpecError,
        match="freq must be one that the PLL can make of 12 MHz, not 2 MHz",
    ):
        nearest("ice40", 12_000_000, 2_000_000)
