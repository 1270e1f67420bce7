"""Area of the 16-point transform beside da4ml's, in one run. Prints the table with ``-s``."""

import pytest

from mulfree.emit import to_verilog
from mulfree.formats.planes import hadamard
from mulfree.units.wht import WHTSpec, folded, serial
from mulfree_lab import peers
from mulfree_lab.synthesis import Job, Synthesizer
from mulfree_lab.technology import TECHNOLOGIES, Counts

pytestmark = pytest.mark.slow

FAMILIES = ("ecp5", "ice40", "xc7")


def best(verilog: str, family: str) -> Counts:
    """Return the smallest count over the family's recipes, for whoever's Verilog it is."""
    technology = TECHNOLOGIES[family]
    jobs = [Job(verilog, technology, recipe) for recipe in technology.recipes()]
    return min(Synthesizer(jobs=1).run(jobs), key=lambda counts: counts.lut_equivalents)


def row(verilog: str) -> dict[str, Counts]:
    return {family: best(verilog, family) for family in FAMILIES}


def sizes(counts: dict[str, Counts]) -> list[int]:
    return [counts[family].lut_equivalents for family in FAMILIES]


@pytest.mark.skipif(not peers.available(), reason="da4ml is not installed")
@pytest.mark.parametrize("pipelined", [False, True])
def test_parallel_is_smaller_than_da4ml(pipelined: bool) -> None:
    ours = sizes(row(to_verilog(WHTSpec(points=16, bits=8, pipeline=int(pipelined)))))
    theirs = sizes(row(peers.da4ml_verilog(hadamard(16), 8, pipelined)))
    print(f"pipelined {pipelined}: ours {ours}, da4ml {theirs}")
    for own, other in zip(ours, theirs, strict=True):
        assert own <= other
    if not pipelined:  # the published comparison counts no cells that hold a carry alone
        assert all(own <= most for own, most in zip(ours, (785, 988, 615), strict=True))


def test_smaller_forms_trace_a_curve() -> None:
    """Fewer clocks a vector cost more area, down to a tenth of the parallel form and below."""
    streaming, fold, bits = (WHTSpec(form=form) for form in ("streaming", "folded", "serial"))
    parallel = row(to_verilog(WHTSpec()))
    curve = [
        (1, parallel),
        (streaming.beats, row(to_verilog(streaming))),
        (folded.cycles(fold), row(to_verilog(fold))),
        (serial.cycles(bits), row(to_verilog(bits))),
    ]
    for clocks, counts in curve:
        print(clocks, sizes(counts), {family: counts[family].ff for family in FAMILIES})
    assert [clocks for clocks, _ in curve] == sorted(clocks for clocks, _ in curve)
    for family in FAMILIES:
        areas = [counts[family].lut_equivalents for _, counts in curve]
        assert areas == sorted(areas, reverse=True)
        assert areas[-1] * 10 <= areas[0]
        assert all(counts[family].dsp == 0 for _, counts in curve)
