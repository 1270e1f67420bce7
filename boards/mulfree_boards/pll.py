"""PLLs: a system clock from a board's oscillator, as near to the one asked for as a chip can make.

Limits and formulas: ECP5 Lattice FPGA-TN-02200, iCE40 FPGA-TN-02052, Gowin UG286 and DS117.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Instance, Signal

from mulfree.spec import SpecError


@dataclass(frozen=True)
class Pll:
    """What a PLL makes of its input, and the parameters that tell it so."""

    hz: float
    parameters: dict[str, Any]

    def instance(self, technology: str, source: Any, clock: Signal, locked: Signal) -> Instance:
        """Return the primitive; `source` is the pin itself on iCE40, else the buffered clock."""
        given = {f"p_{name}": value for name, value in self.parameters.items()}
        match technology:
            case "ecp5":
                fed_back = Signal()
                return Instance(
                    "EHXPLLL", **given,
                    i_CLKI=source, i_CLKFB=fed_back, i_RST=0, i_STDBY=0, i_PHASESEL0=0,
                    i_PHASESEL1=0, i_PHASEDIR=0, i_PHASESTEP=0, i_PHASELOADREG=0, i_PLLWAKESYNC=0,
                    i_ENCLKOP=0, o_CLKOP=fed_back, o_CLKOS=clock, o_LOCK=locked,
                )  # fmt: skip
            case "ice40":
                return Instance(
                    "SB_PLL40_PAD", **given,
                    i_PACKAGEPIN=source, i_RESETB=1, i_BYPASS=0,
                    o_PLLOUTGLOBAL=clock, o_LOCK=locked,
                )  # fmt: skip
            case _:
                return Instance(
                    "rPLL", **given,
                    i_CLKIN=source, i_CLKFB=0, i_RESET=0, i_RESET_P=0, i_FBDSEL=0, i_IDSEL=0,
                    i_ODSEL=0, i_PSDA=0, i_DUTYDA=0, i_FDLY=0,
                    o_CLKOUT=clock, o_LOCK=locked,
                )  # fmt: skip


def nearest(technology: str, source_hz: int, wanted_hz: int) -> Pll:
    """Return the PLL whose output is nearest to the clock asked for.

    Raises
    ------
    SpecError
        The chip can make no clock within 5 % of it.
    """
    found = min(
        _CHOICES[technology](source_hz, wanted_hz),
        key=lambda pll: abs(pll.hz - wanted_hz),
        default=None,
    )
    if found is None or abs(found.hz / wanted_hz - 1) > 0.05:
        raise SpecError(
            f"freq must be one that the PLL can make of {source_hz / 1e6:g} MHz, "
            f"not {wanted_hz / 1e6:g} MHz"
        )
    return found


def _ecp5(source: int, wanted: int) -> Iterator[Pll]:
    """Phase detector 10…400 MHz, oscillator 400…800 MHz.

    The first output is fed back, at the phase detector's frequency; the second is ours.
    """
    for divide in range(1, 129):
        detector = source / divide
        if not 10e6 <= detector <= 400e6:
            continue
        for multiply in range(1, 81):
            oscillator = detector * multiply
            post = round(oscillator / wanted)
            if 400e6 <= oscillator <= 800e6 and 1 <= post <= 128:
                yield Pll(
                    oscillator / post,
                    {
                        "CLKI_DIV": divide, "CLKFB_DIV": 1, "CLKOP_DIV": multiply,
                        "CLKOP_CPHASE": multiply - 1, "CLKOP_FPHASE": 0,
                        "CLKOP_ENABLE": "ENABLED", "CLKOS_DIV": post, "CLKOS_CPHASE": post - 1,
                        "CLKOS_FPHASE": 0, "CLKOS_ENABLE": "ENABLED", "FEEDBK_PATH": "CLKOP",
                        "PLLRST_ENA": "DISABLED", "INTFB_WAKE": "DISABLED",
                        "STDBY_ENABLE": "DISABLED", "DPHASE_SOURCE": "DISABLED",
                        "OUTDIVIDER_MUXA": "DIVA", "OUTDIVIDER_MUXB": "DIVB",
                        "OUTDIVIDER_MUXC": "DIVC", "OUTDIVIDER_MUXD": "DIVD",
                    },
                )  # fmt: skip


def _ice40(source: int, wanted: int) -> Iterator[Pll]:
    """Phase detector 10…133 MHz, oscillator 533…1066 MHz, output up to 275 MHz."""
    for divide in range(16):
        detector = source / (divide + 1)
        if not 10e6 <= detector <= 133e6:
            continue
        # The loop filter's range goes with the phase detector's frequency.
        limits = (17e6, 26e6, 44e6, 66e6, 101e6)
        filter_range = 1 + sum(detector >= limit for limit in limits)
        for feedback in range(128):
            oscillator = detector * (feedback + 1)
            if not 533e6 <= oscillator <= 1066e6:
                continue
            for post in range(1, 7):
                hz = oscillator / 2**post
                if hz <= 275e6 and abs(hz / wanted - 1) < 0.1:
                    yield Pll(
                        hz,
                        {
                            "FEEDBACK_PATH": "SIMPLE", "DIVR": divide, "DIVF": feedback,
                            "DIVQ": post, "FILTER_RANGE": filter_range,
                        },
                    )  # fmt: skip


def _gowin(source: int, wanted: int) -> Iterator[Pll]:
    """Phase detector 3…400 MHz, oscillator 400…1200 MHz, output up to 600 MHz (GW1NR-9C, C6/I5)."""
    for divide in range(64):
        detector = source / (divide + 1)
        if not 3e6 <= detector <= 400e6:
            continue
        feedback = round(wanted / detector) - 1
        if not 0 <= feedback <= 63:
            continue
        hz = detector * (feedback + 1)
        for post in (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128):
            if hz <= 600e6 and 400e6 <= hz * post <= 1200e6:
                yield Pll(
                    hz,
                    {
                        "DEVICE": "GW1NR-9C", "FCLKIN": f"{source / 1e6:g}", "IDIV_SEL": divide,
                        "FBDIV_SEL": feedback, "ODIV_SEL": post, "DYN_IDIV_SEL": "false",
                        "DYN_FBDIV_SEL": "false", "DYN_ODIV_SEL": "false", "PSDA_SEL": "0000",
                        "DUTYDA_SEL": "1000", "DYN_DA_EN": "false", "CLKOUT_FT_DIR": 1,
                        "CLKOUTP_FT_DIR": 1, "CLKOUT_DLY_STEP": 0, "CLKOUTP_DLY_STEP": 0,
                        "CLKFB_SEL": "internal", "CLKOUT_BYPASS": "false",
                        "CLKOUTP_BYPASS": "false", "CLKOUTD_BYPASS": "false", "DYN_SDIV_SEL": 2,
                        "CLKOUTD_SRC": "CLKOUT", "CLKOUTD3_SRC": "CLKOUT",
                    },
                )  # fmt: skip
                break


_CHOICES = {"ecp5": _ecp5, "ice40": _ice40, "gowin": _gowin}
