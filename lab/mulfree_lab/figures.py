"""The pages' figures: measured, kept as files, and written into the pages from those.

``python -m mulfree_lab.figures`` measures what has no file yet in docs/results and rewrites the
tables of the README and of LUT-NA's page.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mulfree import tools
from mulfree.files import write_text

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
README = ROOT / "README.md"
LUTNA = ROOT / "docs" / "units" / "lutna.md"

ARRAY = "mulfree evaluate array --outputs 4 --lanes 8"
TARGETS = "--target ecp5,xc7,gowin,ice40 --json"
#: What is measured: the result's name, what the table calls it, and the command.
RUNS = {
    "lutna_8x8": ("LUT-NA, 8 × 8 bits", f"{ARRAY} --kind lutna {TARGETS}"),
    "lutna_8x8_double": (
        "LUT-NA, 8 × 8 bits, double-buffered",
        f"{ARRAY} --kind lutna --double-buffer {TARGETS}",
    ),
    "lutna_8x8_ice40": (
        "LUT-NA, 8 × 8 bits, no block RAM",
        f"{ARRAY} --kind lutna --tables activations --target ice40 --json",
    ),
    "lutna_6x6": (
        "LUT-NA, 6 × 6 bits",
        f"{ARRAY} --kind lutna --act-bits 6 --weight-bits 6 {TARGETS}",
    ),
    "lutna_4x4": (
        "LUT-NA, 4 × 4 bits",
        f"{ARRAY} --kind lutna --act-bits 4 --weight-bits 4 {TARGETS}",
    ),
    "lutna_8x4": ("LUT-NA, 8 × 4 bits", f"{ARRAY} --kind lutna --weight-bits 4 {TARGETS}"),
    "lutna_16x16": (
        "LUT-NA, 16 × 16 bits",
        f"{ARRAY} --kind lutna --act-bits 16 --weight-bits 16 --acc-bits 40 {TARGETS}",
    ),
    "pot_8x4": ("power of two, 8 × 4 bits", f"{ARRAY} --kind pot --weight-bits 4 {TARGETS}"),
    "pot_8x3": ("power of two, 8 × 3 bits", f"{ARRAY} --kind pot --weight-bits 3 {TARGETS}"),
}


CONSTANT = "mulfree evaluate lutna --lanes 8 --weights constant --matrix docs/results"
PEER = "--target ecp5,xc7,gowin,ice40 --against da4ml --json"
#: Constant weights beside da4ml's.
CONSTANT_RUNS = {
    "constant_dot8": ("8 taps", f"{CONSTANT}/dot8.csv {PEER}"),
    "constant_matrix8": ("8 × 8 matrix", f"{CONSTANT}/matrix8.csv --outputs 8 {PEER}"),
}
#: What the table of a page shows, and its heading.
PAGES = {
    README: (RUNS, "array of 4 × 8, 32-bit accumulators"),
    LUTNA: (CONSTANT_RUNS, "8-bit activations, 8-bit weights; ours / da4ml"),
}


def load(name: str) -> list[dict[str, Any]]:
    """Return the results of a run that has a file; none where it has not."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["results"] if path.exists() else []


def table(page: Path) -> str:
    """Return a page's figures as Markdown: LUT equivalents, ours / best baseline = ratio."""
    runs, heading = PAGES[page]
    if not any(load(name) for name in runs):
        return "No results are kept yet; `make figures` makes them."
    targets = ["ecp5", "xc7", "gowin", "ice40"]
    titles = ["ECP5", "Xilinx 7", "Gowin", "iCE40"]
    lines = [f"| {heading} | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    for name, (title, _) in runs.items():
        found = {result["target"]: result for result in load(name)}
        if found:
            cells = [_cell(found[target]) if target in found else "–" for target in targets]
            path = os.path.relpath(RESULTS / f"{name}.json", page.parent)
            lines.append(f"| [{title}]({path}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(result: dict[str, Any]) -> str:
    ours, theirs = result["lut_equivalents"], result["baseline"]["lut_equivalents"]
    blocks = f" + {result['ram']} RAM" if result["ram"] else ""
    return f"{ours:,}{blocks} / {theirs:,} = {result['ratio']:.3f}"


def renewed(page: Path) -> str:
    """Return a page's text with the table of the present results in its place."""
    block = f"<!-- figures -->\n\n{table(page)}\n\n<!-- end of figures -->"
    marked = r"<!-- figures -->.*<!-- end of figures -->"
    return re.sub(marked, lambda _: block, page.read_text(), flags=re.DOTALL)


def main() -> None:
    """Measure what has no result yet, then rewrite the pages' tables."""
    for page, (runs, _) in PAGES.items():
        for name, (title, command) in runs.items():
            path = RESULTS / f"{name}.json"
            if not path.exists():
                print(f"{title}: {command}", file=sys.stderr, flush=True)
                words = [tools.executable("mulfree"), *command.split()[1:]]
                done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
                record = {"command": command, **json.loads(done.stdout)}
                write_text(path, json.dumps(record, indent=1) + "\n")
                write_text(page, renewed(page))
        write_text(page, renewed(page))


if __name__ == "__main__":
    main()
