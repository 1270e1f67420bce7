"""One page of everything that was measured: tables, plots, method and versions, in one file.

The page is made from what is there: results as `evaluate --json` prints them, stores of `explore`,
the estimator's held-out points, and any other JSON file that holds rows. It loads nothing from
anywhere. The same tables are written as CSV, and all data as one JSON file.
"""

import base64
import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mulfree.files import write_text
from mulfree_lab.explore import SweepError, flat, read, tools
from mulfree_lab.technology import TECHNOLOGIES

#: A colour and a mark for each series, apart from each other for every kind of sight.
SERIES = (
    ("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"),
    ("#56b4e9", "v"), ("#e69f00", "P"), ("#6b6b6b", "X"),
)  # fmt: skip

#: Rows of a table that the page shows; its CSV has all.
SHOWN = 60


class ReportError(ValueError):
    """What was given cannot be made into a page; the message says why."""


@dataclass(frozen=True)
class Table:
    """Rows under headings; `note` stands below."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""

    @property
    def csv(self) -> str:
        """The table as CSV."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(
            any(isinstance(row[i], int | float) for row in self.rows)
            and all(isinstance(row[i], int | float | None) for row in self.rows)
            for i in range(len(self.columns))
        )


@dataclass(frozen=True)
class Figure:
    """A plot as SVG, and what it shows in words."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    text: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass
class Sources:
    """What a page is made from, sorted by what it is."""

    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    sweeps: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    estimator: dict[str, Any] | None = None
    mixed: dict[str, dict[str, Any]] = field(default_factory=dict)
    others: dict[str, dict[str, Any]] = field(default_factory=dict)


def gather(paths: Iterable[Path]) -> Sources:
    """Read result files and stores; a folder stands for every file in it.

    Raises
    ------
    ReportError
        A file cannot be read, or there is no result in any.
    """
    found = Sources()
    files = [
        inner
        for path in paths
        for inner in (sorted(path.glob("*.json*")) if path.is_dir() else [path])
    ]
    for path in files:
        if path.suffix == ".jsonl":
            try:
                records = read(path)
            except SweepError as error:
                raise ReportError(str(error)) from None
            name = path.stem if path.stem not in found.sweeps else str(path.with_suffix(""))
            found.sweeps[name] = records
            continue
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ReportError(f"result must be a readable JSON file, not {path}: {error}") from None
        _sort_in(found, path.stem, content)
    if found == Sources():
        raise ReportError("report must be given results, but there are none")
    return found


def _sort_in(found: Sources, name: str, content: Any) -> None:
    if isinstance(content, dict) and {"held_out", "points"} <= content.keys():
        found.estimator = content
    elif isinstance(content, dict) and _is_evaluation(content.get("results")):
        found.evaluations[name] = content
    elif isinstance(content, dict) and {"networks", "digital"} <= content.keys():
        found.mixed[name] = content
    elif isinstance(content, dict):
        found.others[name] = content
    elif isinstance(content, list):
        found.others[name] = {"results": content}


def _is_evaluation(results: Any) -> bool:
    return (
        isinstance(results, list)
        and bool(results)
        and all(isinstance(r, dict) and {"target", "lut_equivalents"} <= r.keys() for r in results)
    )


def sections(sources: Sources) -> list[Section]:
    """Return the parts of the page that there is something for."""
    found = []
    if sources.evaluations:
        found.append(_evaluations(sources.evaluations))
    found += [_mixed(name, content) for name, content in sources.mixed.items()]
    found += [_other(name, content) for name, content in sources.others.items()]
    found += [_sweep(name, records) for name, records in sources.sweeps.items() if records]
    if sources.estimator:
        found.append(_estimator(sources.estimator))
    return [*[s for s in found if s.tables or s.figures], _method()]


def _evaluations(results: dict[str, dict[str, Any]]) -> Section:
    rows = []
    for name, content in results.items():
        for r in content["results"]:
            base = r.get("baseline") or {}
            rows.append(
                (
                    _plain(name), r["target"], r["lut_equivalents"], r.get("ff"), r.get("ram"),
                    r.get("depth"), base.get("lut_equivalents"), base.get("name"), r.get("ratio"),
                )
            )  # fmt: skip
    columns = (
        "design", "target", "LUT eq.", "FF", "RAM", "depth", "baseline LUT eq.", "baseline",
        "ratio",
    )  # fmt: skip
    commands = Table(
        "commands", "Commands that give these figures", ("design", "command"),
        tuple((_plain(n), c["command"]) for n, c in results.items() if "command" in c),
    )  # fmt: skip
    table = Table("evaluations", "Designs and the best of their baselines", columns, tuple(rows))
    with_ratio = [row for row in rows if row[-1] is not None]
    figures = (_ratios(with_ratio),) if with_ratio else ()
    return Section(
        "evaluations",
        "Against the alternatives",
        "Each design beside the smallest of its rivals: multipliers with the same ports, "
        "accumulators and parameters, or, for constant weights, another generator's adder graph. "
        "All went through the same tools. A ratio below one means that ours is the smaller; where "
        "it spends block RAM, that is an area which LUT equivalents do not show.",
        figures,
        (table, commands) if commands.rows else (table,),
    )


def _sweep(name: str, records: list[dict[str, Any]]) -> Section:
    rows = [flat(r) for r in records]
    targets = list(dict.fromkeys(row["target"] for row in rows))
    spread = {}
    for row in rows:
        group = (row["target"], row.get("kind", row["unit"]))
        spread.setdefault(group, []).append(row)
    summary = Table(
        f"{name}_summary", "What was swept",
        ("target", "kind", "points", "least LUT eq.", "most LUT eq.", "synthesis seconds"),
        tuple(
            (target, kind, len(group), min(r["lut_equivalents"] for r in group),
             max(r["lut_equivalents"] for r in group), round(sum(r["seconds"] for r in group), 1))
            for (target, kind), group in spread.items()
        ),
    )  # fmt: skip
    tables, figures = [summary], []
    priced = [r for r in rows if r["products"] and "act_bits" in r and "weight_bits" in r]
    if priced:
        figures.append(_clouds(priced, targets))
        tables.append(_front(name, priced))
    columns = tuple(dict.fromkeys(n for row in rows for n in row if n not in ("id", "matrix")))
    everything = tuple(tuple(row.get(n) for n in columns) for row in rows)
    tables.append(Table(f"{name}_points", "Every point", columns, everything))
    return Section(
        f"sweep-{name}",
        f"Design space: {_plain(name)}",
        f"{len(rows)} points, one design on one family each, through the family's plain synthesis "
        "(recipe default) or the smallest result of all its recipes (best). LUT equivalents count "
        "everything that takes a look-up-table site; a product is one weight times one activation "
        "a clock, with its share of adders, accumulators and control.",
        tuple(figures),
        tuple(tables),
    )


def _front(name: str, rows: list[dict[str, Any]]) -> Table:
    """Return, for each family, what no other design beats in both area and precision."""
    found = []
    for target in dict.fromkeys(r["target"] for r in rows):
        own = [r for r in rows if r["target"] == target]
        best: list[dict[str, Any]] = []
        for r in sorted(own, key=lambda r: (_area(r), -_precision(r))):
            if not any(_precision(kept) >= _precision(r) for kept in best):
                best.append(r)
        found += best
    return Table(
        f"{name}_front", "Pareto front: area of a product against precision",
        ("target", "kind", "activation bits", "weight bits", "LUT eq. a product", "products",
         "LUT eq.", "FF", "RAM", "depth"),
        tuple(
            (r["target"], r.get("kind", r["unit"]), r["act_bits"], r["weight_bits"],
             round(_area(r), 1), r["products"], r["lut_equivalents"], r["ff"], r["ram"],
             r["depth"])
            for r in found
        ),
    )  # fmt: skip


def _area(row: dict[str, Any]) -> float:
    return row["lut_equivalents"] / row["products"]


def _precision(row: dict[str, Any]) -> int:
    return row["act_bits"] * row["weight_bits"]


def _estimator(content: dict[str, Any]) -> Section:
    rows = [
        (target, quantity, e["points"], e["median"], e["p95"])
        for target, own in content["targets"].items()
        for quantity, e in own.items()
    ]
    return Section(
        "estimator",
        "Estimator",
        f"What the estimator says before synthesis, on {content['held_out']} points that its fit "
        f"never saw: half of them are within {content['median']:.1%} of what synthesis gives, "
        f"and 95 in 100 within {content['p95']:.1%}.",
        (_agreement(content["points"]),),
        (
            Table("estimator_errors", "Relative errors on held-out points",
                  ("target", "quantity", "points", "median", "95 % below"), tuple(rows)),
        ),
    )  # fmt: skip


def _mixed(name: str, content: dict[str, Any]) -> Section:
    networks = content["networks"]
    chosen = Table(
        f"{name}_choices", f"{networks[0]['network']}: what each layer is computed by",
        ("layer", "MACs", "choice"),
        tuple((x["layer"], x["macs"], x["choice"]) for x in networks[0]["layers"]),
    )  # fmt: skip
    whole = _other(name, {key: value for key, value in content.items() if key == "networks"})
    return Section(
        _slug(name),
        f"Mixed precision: as sensitive as {networks[0]['network']}",
        "Bits of activations and weights and the kind of MAC, chosen layer by layer under a budget "
        "of changed classes; the five networks' layers are as sensitive as those at the same depth "
        "of the network that was measured. Against conventional MACs of 8 × 8 bits, the least area "
        f"and the least energy of any form. Command: {content['command']}",
        (_factors(networks),),
        (*whole.tables, chosen),
    )


def _other(name: str, content: dict[str, Any]) -> Section:
    """Show any list of records as a table of what is plain in them."""
    tables = []
    for key, value in content.items():
        records = value if isinstance(value, list) else []
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            records = [{"name": n} | v for n, v in value.items()]
        if not records or not all(isinstance(r, dict) for r in records):
            continue
        records = [_leaves(r) for r in records]
        columns = tuple(dict.fromkeys(n for r in records for n in r))
        if columns:
            title = _plain(name if key in ("results", "rows") else key)
            cells = tuple(tuple(r.get(n) for n in columns) for r in records)
            tables.append(Table(f"{name}_{key}", title, columns, cells))
    command = content.get("command")
    text = f"Command: {command}" if isinstance(command, str) else ""
    return Section(_slug(name), _plain(name).capitalize(), text, (), tuple(tables))


def _leaves(record: dict[str, Any]) -> dict[str, Any]:
    """Return what is plain in a record, and in the records in it but for Specs."""
    found = {}
    for name, value in record.items():
        if isinstance(value, dict) and "unit" not in value:
            inner = {f"{name} {n}": v for n, v in value.items()}
            found |= {_plain(n): v for n, v in inner.items() if not isinstance(v, dict | list)}
        elif not isinstance(value, dict | list):
            found[_plain(name)] = value
    return found


def _method() -> Section:
    counted = Table(
        "families", "Families", ("target", "family", "synthesis", "LUTs as memory"),
        tuple(
            (t.name, t.title, t.synthesis, "yes" if t.lutram else "no")
            for t in TECHNOLOGIES.values()
        ),
    )  # fmt: skip
    versions = Table("versions", "Versions", ("tool", "version"), tuple(tools().items()))
    return Section(
        "method",
        "Method",
        "Every design is generated as Verilog and synthesised by Yosys without hard multipliers. A "
        "LUT equivalent is one look-up-table site that nothing else can use: carry cells, "
        "distributed memories and pass-through sites count as the sites that they take; wide "
        "multiplexers, flip-flops and block RAM are reported apart; a cell without a counting rule "
        "is an error. Depth is the longest path in LUT levels, routing left out. These are "
        "synthesis results: nothing here was placed, routed or run on a device unless its table "
        "says so.",
        (),
        (counted, versions),
    )


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _ratios(rows: Sequence[tuple[Any, ...]]) -> Figure:
    from matplotlib.figure import Figure as Canvas

    names = list(dict.fromkeys(row[0] for row in rows))
    targets = list(dict.fromkeys(row[1] for row in rows))
    canvas = Canvas(figsize=(8, 1.3 + 0.42 * len(names)), layout="constrained")
    axes = canvas.add_subplot()
    for (colour, mark), target in zip(_cycle(len(targets)), targets, strict=True):
        axes.plot([], [], mark, color=colour, markersize=8, label=target)
        for row in rows:
            if row[1] == target:
                fill = "white" if row[4] else colour
                axes.plot(
                    row[-1], names.index(row[0]), mark, color=colour, markersize=8,
                    markerfacecolor=fill, alpha=0.9, clip_on=False,
                )  # fmt: skip
    axes.axvline(1, color="#444", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, max(1.05, 1.05 * max(row[-1] for row in rows)))
    axes.set_xlabel(
        "LUT equivalents over the best baseline's (line: equal; hollow: spends block RAM)"
    )
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(targets), frameon=False)
    return Figure(_svg(canvas), "Area of our designs over that of the best of their baselines.")


def _factors(networks: list[dict[str, Any]]) -> Figure:
    from matplotlib.figure import Figure as Canvas

    names = [row["network"] for row in networks]
    canvas = Canvas(figsize=(8, 1.3 + 0.42 * len(names)), layout="constrained")
    axes = canvas.add_subplot()
    for (colour, mark), what in zip(_cycle(2), ("area", "energy"), strict=True):
        for fact, fill in ((f"{what}_factor", colour), (f"{what}_factor_of_bits_alone", "white")):
            axes.plot(
                [row[fact] for row in networks], range(len(names)), mark, color=colour,
                markersize=8, markerfacecolor=fill, alpha=0.9, label=what if fill == colour else "",
            )  # fmt: skip
    axes.axvline(1, color="#444", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("conventional over ours (hollow: conventional MACs of as few bits)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return Figure(_svg(canvas), "How many times less area and energy a network's products take.")


def _clouds(rows: list[dict[str, Any]], targets: list[str]) -> Figure:
    from matplotlib.figure import Figure as Canvas

    kinds = list(dict.fromkeys(r.get("kind", r["unit"]) for r in rows))
    across = min(2, len(targets))
    down = -(-len(targets) // across)
    canvas = Canvas(figsize=(8, 0.6 + 2.9 * down), layout="constrained")
    panels = canvas.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for place, target in enumerate(targets):
        axes = panels[place // across][place % across]
        for (colour, mark), kind in zip(_cycle(len(kinds)), kinds, strict=True):
            own = [r for r in rows if r["target"] == target and r.get("kind", r["unit"]) == kind]
            if own:
                xs, ys = [_precision(r) for r in own], [_area(r) for r in own]
                axes.plot(xs, ys, mark, color=colour, markersize=4, alpha=0.65, label=kind)
        own = [r for r in rows if r["target"] == target]
        edge = _edge([(_precision(r), _area(r)) for r in own])
        axes.plot(*zip(*edge, strict=True), color="#222", linewidth=1.2, label="front")
        axes.set_title(TECHNOLOGIES[target].title if target in TECHNOLOGIES else target)
        axes.set_yscale("log")
    for place in range(len(targets), down * across):
        panels[place // across][place % across].remove()
    canvas.supxlabel("activation bits × weight bits", fontsize=10)
    canvas.supylabel("LUT equivalents a product", fontsize=10)
    handles, labels = panels[0][0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return Figure(
        _svg(canvas),
        "Every point of the sweep: what a product takes, by precision and kind. The line is the "
        "Pareto front: nothing below it reaches that precision. Block RAM is not counted as area; "
        "the table says which designs spend it.",
    )


def _edge(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the least area at a precision or above, as the corners of a staircase."""
    corners: list[tuple[int, float]] = []
    least = float("inf")
    for precision, area in sorted(points, key=lambda p: (-p[0], p[1])):
        if area < least:
            if corners:
                corners.append((precision, least))
            corners.append((precision, area))
            least = area
    return corners


def _agreement(points: list[dict[str, Any]]) -> Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8, 4.6), layout="constrained")
    axes = canvas.add_subplot()
    targets = list(dict.fromkeys(p["target"] for p in points))
    low = min(min(p["measured"], p["estimated"]) for p in points) * 0.8
    high = max(max(p["measured"], p["estimated"]) for p in points) * 1.25
    ends = [max(1, low), high]
    axes.fill_between(
        ends, [0.85 * e for e in ends], [1.15 * e for e in ends], color="#999", alpha=0.18,
        linewidth=0, label="± 15 %",
    )  # fmt: skip
    axes.plot(ends, ends, color="#444", linewidth=1)
    for (colour, mark), target in zip(_cycle(len(targets)), targets, strict=True):
        own = [(p["measured"], p["estimated"]) for p in points if p["target"] == target]
        axes.plot(
            *zip(*own, strict=True), mark, color=colour, markersize=5, alpha=0.75, label=target
        )
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axes.set_xlabel("LUT equivalents, measured")
    axes.set_ylabel("LUT equivalents, estimated")
    axes.legend(frameon=False)
    return Figure(_svg(canvas), "Estimated against measured, on points kept from the fit.")


def _cycle(number: int) -> list[tuple[str, str]]:
    return [SERIES[i % len(SERIES)] for i in range(number)]


#: How every plot looks; text stays text, so that it can be searched, and ids repeat.
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mulfree",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
}


def _svg(canvas: Any) -> str:
    text = io.StringIO()
    canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    body = text.getvalue()
    body = body[body.index("<svg") :]
    # The page sets the size; the drawing keeps its proportions.
    return re.sub(r' width="[\d.]+pt" height="[\d.]+pt"| height="[\d.]+pt"', "", body, count=1)


def page(sources: Sources) -> str:
    """Return the page.

    Raises
    ------
    ReportError
        What draws the page is not installed.
    """
    try:
        import matplotlib as mpl
        from jinja2 import Environment, PackageLoader
    except ImportError:
        raise ReportError(
            "matplotlib must be installed to draw a report: pip install 'mulfree[report]'"
        ) from None
    with mpl.rc_context(STYLE):
        parts = sections(sources)
    here = Environment(
        loader=PackageLoader("mulfree_lab"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    here.filters |= {"cell": _cell, "link": _link}
    return here.get_template("report.html").render(
        sections=parts, shown=SHOWN, data=_link(to_json(sources), "application/json"),
        facts=_facts(sources),
    )  # fmt: skip


def _facts(sources: Sources) -> list[tuple[str, str]]:
    """Return the figures at the head of the page."""
    facts = []
    ratios = [
        r["ratio"]
        for content in sources.evaluations.values()
        for r in content["results"]
        if r.get("ratio") is not None and not r.get("ram")
    ]
    if ratios:
        span = f"{min(ratios):.2f} – {max(ratios):.2f}"
        facts.append((span, "area over the best rival's, where no block RAM is spent"))
        facts.append((str(len(ratios)), "such comparisons, each on one family"))
    points = sum(map(len, sources.sweeps.values()))
    if points:
        facts.append((f"{points:,}", "points of the design space synthesised"))
    if sources.estimator:
        facts.append((f"{sources.estimator['median']:.1%}", "median error of the estimator"))
    return facts


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _link(text: str, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def to_json(sources: Sources) -> str:
    """Return everything that the page is made from as one JSON text."""
    found = {
        "evaluations": sources.evaluations,
        "sweeps": sources.sweeps,
        "estimator": sources.estimator,
        "mixed": sources.mixed,
        "others": sources.others,
        "tools": tools(),
    }
    return json.dumps(found, indent=1) + "\n"


def write(sources: Sources, folder: Path) -> list[Path]:
    """Write report.html, report.json and a CSV file for every table; return their paths."""
    made = [
        write_text(folder / "report.html", page(sources)),
        write_text(folder / "report.json", to_json(sources)),
    ]
    for section in sections(sources):
        for table in section.tables:
            made.append(write_text(folder / f"{_slug(table.name)}.csv", table.csv))
    return made
