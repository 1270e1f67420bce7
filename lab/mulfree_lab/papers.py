"""The papers' headline figures beside ours: what each says, what is measured here, what differs.

Figures on standard cells come from kept results (docs/results/cells_*.json), measured anew by
`measure`; those that are counted rather than measured are counted when the table is made.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mulfree.files import write_text
from mulfree.units.baseline import BaselineSpec
from mulfree.units.digitizer import DigitizerSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_lab import architectures, cells, choices
from mulfree_lab.characterise import Design, measure, ratio
from mulfree_models import bwht_parameters, digits, frequency, pot
from mulfree_sim.golden import digitizer

#: Where kept results are, in a checkout.
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"

#: The recipes that standard-cell designs go through here: those that give the least area.
RECIPES = ("full adders, area", "complemented full adders, area")

#: A full look-up's selects drive thousands of pins, which only buffers can.
BUFFERED = ("full adders, area and buffers",)

_MAC = {"act_bits": 8, "act_signed": False, "weight_bits": 9}
_ARRAY = {"outputs": 4, "lanes": 8}
_POT = {"act_bits": 8, "act_signed": False, "outputs": 4, "lanes": 8}

#: LUT-NA's form of the least energy.
SIGNED = "lutna, signed digits"

#: What lets a binary multiplier's rows and an array's lanes be summed.
WALLACE_ARRAY = (
    "wallace",
    "array",
    "wallace, lanes in one carry-save sum",
    "array, lanes in one carry-save sum",
)


def _baselines(shape: dict[str, Any], forms: tuple[str, ...]) -> list[tuple[str, BaselineSpec]]:
    found = []
    for form in forms:
        found.append((form, BaselineSpec(form=form, **shape)))
        if shape.get("lanes", 1) > 1:
            joined = BaselineSpec(form=form, reduce="carry-save", **shape)
            found.append((f"{form}, lanes in one carry-save sum", joined))
    return found


def _multiplier() -> list[Design]:
    """Return one 8 × 9-bit multiplier in every form, with its register of weight and result."""
    network = digits.network()
    shape = _MAC | {"outputs": 1, "lanes": 1}
    own = {"reduce": "carry-save"}
    lutna = {
        "lutna": LutNASpec(tables="activations", digit_bits=1, table_lanes=1, **own, **shape),
        "lutna, digits of 2 bits": LutNASpec(tables="activations", digit_bits=2, **own, **shape),
        "lutna, W and 3W stored": LutNASpec(
            tables="registers", storage="odd", digit_bits=2, pipeline=0, **own, **shape
        ),
        SIGNED: LutNASpec(tables="activations", storage="signed", **own, **shape),
    }
    rivals = dict(_baselines(shape, ("wallace", "array", "dadda", "booth", "direct")))
    return [
        Design(name, spec, network, BUFFERED if name == "direct" else ())
        for name, spec in (lutna | rivals).items()
    ]


def _lutna_array() -> list[Design]:
    """Return arrays of 8 × 9-bit MACs: sums shared by the outputs, weights in signed digits."""
    network, shape = digits.network(), _MAC | _ARRAY
    own = LutNASpec(tables="activations", reduce="carry-save", **shape)
    lutna = {"lutna": own, SIGNED: replace(own, storage="signed", digit_bits=0, table_lanes=0)}
    rivals = dict(_baselines(shape, ("wallace", "array")))
    return [Design(name, spec, network) for name, spec in (lutna | rivals).items()]


def _pot_array(pruned: bool) -> list[Design]:
    """Return arrays of MACs with 4-bit power-of-two weights, and uniform ones of 4 and 8 bits."""
    network = pot.shipped(4, pruned)
    own = PoTSpec(weight_bits=4, reduce="carry-save", **_POT)
    found = [Design("pot", own, network)]
    for bits in (4, 8):
        for name, spec in _baselines(_POT | {"weight_bits": bits}, ("dadda",)):
            found.append(Design(f"uniform {bits} bits, {name}", spec, network))
    return found


#: Result name -> what makes its designs, tiles, and activation vectors a tile.
RUNS: dict[str, tuple[Callable[[], list[Design]], int, int]] = {
    "cells_lutna_multiplier": (_multiplier, 4, 60),
    "cells_lutna_array": (_lutna_array, 2, 40),
    "cells_pot_pruned": (lambda: _pot_array(True), 3, 60),
    "cells_pot_dense": (lambda: _pot_array(False), 3, 60),
    "cells_mixed": (choices.designs, 2, 40),
}


def load(name: str) -> dict[str, Any] | None:
    """Return a kept result, or None where there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def run(
    name: str,
    folder: Path = RESULTS,
    progress: Callable[[str], None] = print,
    only: Collection[str] = (),
) -> Path:
    """Measure one of `RUNS` and keep it; return its file.

    Parameters
    ----------
    only
        Names of the designs to measure, where the kept figures of the others are to stay.
    """
    make, tiles, vectors = RUNS[name]
    path = folder / f"{name}.json"
    kept = json.loads(path.read_text())["designs"] if only and path.exists() else {}
    for design in make():
        if only and design.name not in only:
            continue
        found = measure(
            [design], cells.technology(), RECIPES, tiles=tiles, vectors=vectors, progress=progress
        )
        kept |= found["designs"]
        record = {"command": f"mulfree papers --measure {name}", **found, "designs": kept}
        write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path


@dataclass(frozen=True)
class Row:
    """One headline.

    Members
    -------
    paper, claim, figure
        Who says what, and the figure: a factor, a share, a count.
    certainty
        ABS: the paper's own abstract. CALC: computed from it. REC: recalled, unverified.
    ours
        Our figure, or a dash where it is not measured.
    command
        What makes ours.
    differs
        What keeps the two from being the same thing.
    """

    paper: str
    claim: str
    figure: str
    certainty: str
    ours: str
    command: str
    differs: str


_CELLS = (
    "digital cells at 180 nm, synthesis without wiring; the paper's tables and node are its own"
)


def _factor(name: str, ours: str, theirs: tuple[str, ...], what: str) -> str:
    result = load(name)
    found = ratio(result, ours, theirs, what) if result else None
    return f"{found[0]:.2f} ×" if found else "–"


def _against_direct(what: str) -> str:
    """Return the direct look-up's cost of one MAC over that of a LUT-NA MAC in its array."""
    one, array = load("cells_lutna_multiplier"), load("cells_lutna_array")
    if not one or not array or "direct" not in one["designs"]:
        return "–"
    joined = {"designs": {"lutna": array["designs"]["lutna"], "direct": one["designs"]["direct"]}}
    found = ratio(joined, "lutna", ("direct",), what)
    return f"{found[0]:.2f} ×" if found else "–"


def _digitiser() -> str:
    modes = {
        "SAR": DigitizerSpec(mode="sar"),
        "flash": DigitizerSpec(mode="flash"),
        "hybrid": DigitizerSpec(mode="hybrid", flash_bits=2),
    }
    return ", ".join(
        f"{name} {digitizer.convert_level(spec, 13.5).cycles}" for name, spec in modes.items()
    )


def _parameters() -> str:
    layers = bwht_parameters.mobilenet_v2()
    whole = bwht_parameters.count(layers)
    best = min(
        (1 - left / whole for _, left in bwht_parameters.curve(layers)),
        key=lambda share: abs(share - 0.87),
    )
    return f"{100 * best:.1f} %"


def _planes() -> str:
    images = digits.load().test_images.reshape(-1, 8, 8)
    work = frequency.network().work(images)
    return f"{work['planes_per_row']:.2f} of 8 ({work['live_planes_per_row']:.2f} of rows alive)"


def table() -> list[Row]:
    """Return every headline."""
    array = "mulfree papers --measure cells_lutna_array"
    one = "mulfree papers --measure cells_lutna_multiplier"
    pruned = "mulfree papers --measure cells_pot_pruned"
    lutna = Row("LUT-NA, 2406.05282", "", "", "ABS", "", array, _CELLS)
    alone = replace(lutna, command=one)
    shift = Row("PoT, 2209.15257", "", "1.4 ×", "ABS", "", pruned, "")
    plain = ("wallace", "array")
    uniform = tuple(
        f"uniform {{}} bits, dadda{tail}" for tail in ("", ", lanes in one carry-save sum")
    )
    of_bits = {bits: tuple(name.format(bits) for name in uniform) for bits in (4, 8)}
    fpga = "standard cells, where the paper measures an FPGA's board"
    return [
        replace(lutna, claim="area, traditional look-up over ours", figure="29.54 ×",
                ours=_against_direct("area"),
                differs="MAC in an array of 4 × 8; look-up: 256 entries in flip-flops; " + _CELLS),
        replace(lutna, claim="energy, traditional look-up over ours", figure="3.34 ×",
                ours=_against_direct("energy"),
                differs="slews beyond the library's tables inflate the look-up's; by its switching "
                "energy alone it is 15 ×. Filling left out; per MAC, not per inference"),
        replace(lutna, claim="area, better of array and Wallace over ours, in an array",
                figure="1.23 ×", ours=_factor("cells_lutna_array", "lutna", WALLACE_ARRAY, "area"),
                differs="tables of the activations, shared by 4 outputs; " + _CELLS),
        replace(lutna, claim="energy, better of array and Wallace over ours, in an array",
                figure="1.80 ×",
                ours=_factor("cells_lutna_array", "lutna", WALLACE_ARRAY, "energy"),
                differs="baseline: all rows of all lanes in one carry-save sum, weights held"),
        replace(lutna, claim="area, the same, ours with weights in signed digits", figure="1.23 ×",
                ours=_factor("cells_lutna_array", SIGNED, WALLACE_ARRAY, "area"),
                differs="the form of the least energy; tables need no sums"),
        replace(lutna, claim="energy, the same, ours with weights in signed digits",
                figure="1.80 ×",
                ours=_factor("cells_lutna_array", SIGNED, WALLACE_ARRAY, "energy"),
                differs="as above; weights are recoded while they are loaded, which is left out"),
        replace(lutna, claim="energy, conventional MACs (an adder a product) over ours",
                figure="1.80 ×", ours=_factor("cells_lutna_array", "lutna", plain, "energy"),
                differs="each product whole before lanes are added, as separate MACs do"),
        replace(lutna, claim="energy, conventional MACs over ours with weights in signed digits",
                figure="1.80 ×", ours=_factor("cells_lutna_array", SIGNED, plain, "energy"),
                differs="as above"),
        replace(alone, claim="area, better of array and Wallace over ours, one multiplier",
                figure="1.23 ×", ours=_best_alone("area"),
                differs="nothing to share a table with; " + _CELLS),
        replace(alone, claim="energy, better of array and Wallace over ours, one multiplier",
                figure="1.80 ×", ours=_best_alone("energy"), differs="as above"),
        *(
            replace(lutna, claim=f"mixed precision: {what}, digital MACs over ours, {where}",
                    figure=figure, ours=_mixed(name, f"{what}_factor"), command=_command(name),
                    differs=_mixed_differs(name, what))
            for what, figure in (("area", "1.35–2.14 ×"), ("energy", "1.99–3.38 ×"))
            for name, where in MIXED.items()
        ),
        replace(shift, claim="energy, uniform 4 bits over ours", differs=fpga,
                ours=_factor("cells_pot_pruned", "pot", of_bits[4], "energy")),
        replace(shift, claim="energy, uniform 8 bits over ours", differs=fpga,
                ours=_factor("cells_pot_pruned", "pot", of_bits[8], "energy")),
        replace(shift, claim="energy, unpruned over pruned network, both on ours", figure="–",
                ours=_zeros(), certainty="–",
                differs="zero weights in place: they stand still, no clock is skipped"),
        Row("WHT, 2309.01771", "bit planes that early termination leaves", "2.41 of 8", "CALC",
            _planes(), "mulfree papers", "from the paper's TOPS/W ratio; ours counted, digital"),
        Row("BWHT, 2309.11048", "parameters saved in MobileNetV2", "87 %", "ABS", _parameters(),
            "mulfree papers", "counted from layer shapes, no accuracy of ours at this size"),
        Row("digitisation, 2307.03863", "clocks of a 5-bit code", "5, 1, –", "REC", _digitiser(),
            "mulfree papers", "controller only; analog arrays' area and energy are not ours"),
    ]  # fmt: skip


#: Results of `mulfree mixed`, and whose sensitivity the choice was made by.
MIXED = {
    "mixed_resnet8": "as sensitive as ResNet-8",
    "mixed_digits": "as sensitive as the digits network",
}


def _span(name: str, fact: str) -> str:
    """Return least and most of a fact among the five networks of a result."""
    result = load(name)
    if not result:
        return ""
    found = [row[fact] for row in result["networks"] if row["network"] in architectures.NETWORKS]
    ends = dict.fromkeys(f"{end:.2f}" for end in (min(found), max(found)))
    return "–".join(ends)


def _mixed(name: str, fact: str) -> str:
    found = _span(name, fact)
    return f"{found} ×" if found else "–"


def _command(name: str) -> str:
    result = load(name)
    return result["command"] if result else ""


def _mixed_differs(name: str, what: str) -> str:
    if not load(name):
        return "not measured here"
    alone = _mixed(name, f"{what}_factor_of_bits_alone")
    return (
        f"digital: 8 × 8 bits, the best form; fewer bits alone {alone}; no CIFAR-10 at hand: the "
        f"networks' layers, another's sensitivity: {_span(name, 'held_out_changed')} % of its "
        "classes change"
    )


def _best_alone(what: str) -> str:
    result = load("cells_lutna_multiplier")
    if not result:
        return "–"
    ours = [name for name in result["designs"] if name.startswith("lutna")]
    found = [ratio(result, name, ("wallace", "array"), what) for name in ours]
    best = max((f[0] for f in found if f), default=None)
    return f"{best:.2f} ×" if best else "–"


def _zeros() -> str:
    dense, pruned = load("cells_pot_dense"), load("cells_pot_pruned")
    if not dense or not pruned:
        return "–"
    cost = [d["designs"]["pot"]["pj_per_mac"]["total"] for d in (dense, pruned)]
    zeros = [100 * d["designs"]["pot"]["zero_weights"] for d in (dense, pruned)]
    return f"{cost[0] / cost[1]:.2f} × ({zeros[0]:.0f} → {zeros[1]:.0f} % zeros)"


def to_json(rows: list[Row]) -> str:
    """Return the table as JSON."""
    return json.dumps({"rows": [asdict(row) for row in rows]}, ensure_ascii=False, indent=1)
