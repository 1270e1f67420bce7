"""What a layer of a network can be computed by: a kind of MAC at a precision, and what it costs.

Costs are measured on standard cells, each MAC in an array of 4 × 8 with its weight's register and
its share of the adders (`mulfree papers --measure cells_mixed`).
"""

from dataclasses import dataclass
from typing import Any

from mulfree.units.baseline import BaselineSpec
from mulfree.units.core import CoreSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_lab.characterise import Design
from mulfree_models import digits

#: Widths of activations and of weights that a layer can have.
ACT_BITS = (8, 6, 5, 4, 3)
WEIGHT_BITS = (8, 6, 5, 4, 3)
#: Power-of-two codes: bits of a term, terms.
POT_CODES = ((4, 1), (3, 1), (4, 2), (3, 2))

_ARRAY = {"act_signed": False, "outputs": 4, "lanes": 8, "reduce": "carry-save"}


@dataclass(frozen=True)
class Choice:
    """A kind of MAC (``lutna``, ``pot`` or ``digital``) at a precision.

    Members
    -------
    weight_bits
        Of an integer; of a term's code, where the weight is one or two powers of two.
    """

    kind: str
    act_bits: int
    weight_bits: int
    terms: int = 1

    @property
    def name(self) -> str:
        """What the results call it."""
        terms = ", two terms" if self.terms == 2 else ""
        return f"{self.kind} {self.act_bits} × {self.weight_bits}{terms}"

    @property
    def coding(self) -> tuple[str, int, int]:
        """How the weights are coded: kinds of one coding compute the same."""
        return ("pot" if self.kind == "pot" else "integer", self.weight_bits, self.terms)

    def spec(self) -> CoreSpec:
        """Return the array that its MACs are measured in."""
        shape = _ARRAY | {"act_bits": self.act_bits, "weight_bits": self.weight_bits}
        if self.kind == "pot":
            return PoTSpec(terms=self.terms, **shape)
        if self.kind == "lutna":
            return LutNASpec(tables="activations", **shape)
        return BaselineSpec(form="dadda", **shape)


#: Where every layer starts.
FULL = Choice("digital", 8, 8)


def choices() -> list[Choice]:
    """Return every choice, the widest first."""
    integers = [
        Choice(kind, act, weight)
        for act in ACT_BITS
        for weight in WEIGHT_BITS
        for kind in ("digital", "lutna")
    ]
    return integers + [Choice("pot", act, *code) for act in ACT_BITS for code in POT_CODES]


#: Conventional 8 × 8-bit MACs besides: the strongest is what a mixed network is compared with.
RIVALS = {
    f"{form} 8 × 8{how}": BaselineSpec(form=form, **_ARRAY | {"reduce": reduce})
    for form in ("wallace", "array", "booth", "dadda")
    for how, reduce in ((", an adder a product", "tree"), ("", "carry-save"))
    if (form, reduce) != ("dadda", "carry-save")  # which is the choice itself
}


def designs() -> list[Design]:
    """Return every choice and every rival, loaded with the digits network."""
    network = digits.network()
    specs = {choice.name: choice.spec() for choice in choices()} | RIVALS
    return [Design(name, spec, network) for name, spec in specs.items()]


@dataclass(frozen=True)
class Cost:
    """What a MAC takes: area in µm², energy in pJ."""

    area: float
    energy: float


def costs(result: dict[str, Any]) -> dict[Choice, Cost]:
    """Return the cost of a MAC of every choice that a result has."""
    found = result["designs"]
    return {
        choice: Cost(found[choice.name]["area_per_mac"], found[choice.name]["pj_per_mac"]["total"])
        for choice in choices()
        if choice.name in found
    }


def digital(result: dict[str, Any]) -> Cost:
    """Return the least area and the least energy of a conventional 8 × 8-bit MAC, of any form."""
    names = [FULL.name, *(name for name in RIVALS if name in result["designs"])]
    found = [result["designs"][name] for name in names]
    return Cost(min(d["area_per_mac"] for d in found), min(d["pj_per_mac"]["total"] for d in found))
