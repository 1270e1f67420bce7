"""Liberty files read, cells told by their functions, areas added, structures for cells."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mulfree.spec import SpecError
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree_lab import cells
from mulfree_lab.commands.evaluate import command
from mulfree_lab.evaluate import technologies
from mulfree_lab.liberty import LibertyError, Library, parse, verilog
from mulfree_lab.netlist import Cell, Netlist, NetlistError

SMALL = Path(__file__).with_name("small.lib")


def small() -> cells.CellTechnology:
    return cells.technology("small", SMALL)


def test_a_library_is_read_in_our_units() -> None:
    library = Library.read(SMALL)
    assert (library.name, library.voltage, len(library.cells)) == ("small", 2.0, 4)
    inverter = library.cells["INV"]
    assert (inverter.area, inverter.leakage, inverter.pins["A"].capacitance) == (10, 1000, 0.01)
    [arc] = inverter.pins["Y"].arcs
    assert arc.rise is not None
    assert arc.rise(0.05, 0.5) == pytest.approx(0.2)
    assert library.cells["DFF"].storage is not None


def test_tables_are_bilinear_and_go_on_beyond_their_ends() -> None:
    [arc] = Library.read(SMALL).cells["DFF"].pins["Q"].arcs
    assert arc.rise is not None
    found = [arc.rise(load, 0.5) for load in (0.0, 0.05, 0.1, 0.2)]
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.5])


def test_other_units_are_turned_into_ours(tmp_path: Path) -> None:
    text = SMALL.read_text().replace('time_unit : "1ns"', 'time_unit : "100ps"')
    text = text.replace("(1, pf)", "(10, ff)").replace('"1nW"', '"1uW"')
    path = tmp_path / "other.lib"
    path.write_text(text)
    inverter = Library.read(path).cells["INV"]
    assert inverter.pins["A"].capacitance == pytest.approx(0.0001)
    assert inverter.leakage == pytest.approx(1e6)
    [arc] = inverter.pins["Y"].arcs
    assert arc.rise is not None
    assert arc.rise(0.0, 0.0) == pytest.approx(0.02)
    [energy] = inverter.pins["Y"].energies
    assert energy.rise is not None
    assert energy.rise(0.0, 0.0) == pytest.approx(0.0002)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("A'", "~a"),
        ("!(A B)", "~((a & b))"),
        ("A+B*C", "(a | (b & c))"),
        ("A^B C", "(a ^ (b & c))"),
        ("(A|B)' 1", "(~((a | b)) & 1'b1)"),
    ],
)
def test_functions_become_verilog(function: str, expected: str) -> None:
    assert verilog(function, {"A": "a", "B": "b", "C": "c"}) == expected


@pytest.mark.parametrize("function", ["A+D", "(A", "A ? B"])
def test_a_function_that_is_none_is_an_error(function: str) -> None:
    with pytest.raises(LibertyError):
        verilog(function, {"A": "a", "B": "b"})


@pytest.mark.parametrize("text", ["library (x) { cell (A) {", "time_unit : 1;", "library x {}"])
def test_a_damaged_file_is_an_error(text: str) -> None:
    with pytest.raises(LibertyError):
        parse(text)


def test_a_library_without_cells_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.lib"
    path.write_text("library (x) { }")
    with pytest.raises(LibertyError, match="must have cells"):
        Library.read(path)


def test_truth_tables_count_inputs_from_the_first() -> None:
    assert cells.truth("A B'", ["A", "B"]) == 0b0010
    assert cells.truth("(A B)+(B C)+(C A)", ["A", "B", "C"]) == 0b11101000


def test_parts_are_found_by_function() -> None:
    roles = small().roles
    assert {name: role.cell.name for name, role in roles.items()} == {
        "invert": "INV",
        "flop": "DFF",
    }
    assert roles["flop"].inputs == ("D", "CLK")


def test_area_is_the_sum_of_the_cells() -> None:
    netlist = Netlist("t", [
        Cell("a", "INV", {"A": [2]}, {"Y": [3]}),
        Cell("b", "XOR", {"A": [2], "B": [3]}, {"Y": [4]}),
        Cell("c", "DFF", {"D": [4], "CLK": [5]}, {"Q": [6]}),
    ])  # fmt: skip
    counts = small().count(netlist)
    assert (counts.area, counts.size, counts.ff, counts.depth) == (90, 90, 1, 2)


@pytest.mark.parametrize("type_", ["NOAREA", "UNKNOWN"])
def test_a_cell_without_an_area_is_an_error(type_: str) -> None:
    netlist = Netlist("t", [Cell("a", type_, {"A": [2]}, {})])
    with pytest.raises(NetlistError, match=f"cell {type_} must have an area in small"):
        small().count(netlist)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "PACKAGE", Path("nowhere.lib"))
    with pytest.raises(SpecError, match=r"apt-get install qflow-tech-osu018.*--liberty FILE"):
        technologies(["osu018"])


def test_a_liberty_file_that_is_missing_is_one_line() -> None:
    done = CliRunner().invoke(command, ["lutna", "--liberty", "nowhere.lib"])
    assert done.exit_code == 2
    assert "liberty must be a readable file, not nowhere.lib" in done.output


def test_structures_for_cells_keep_the_function_and_what_is_fixed() -> None:
    spec = LutNASpec(outputs=2, lanes=4)
    found = cells.structures(spec)
    assert spec in found
    assert {"activations", "registers"} <= {made.tables for made in found}  # pyright: ignore
    kept = cells.structures(LutNASpec(reduce="tree"), frozenset({"reduce"}))
    assert {made.reduce for made in kept} == {"tree"}  # pyright: ignore
    sums = cells.structures(BaselineSpec(form="wallace", lanes=4))
    assert {made.reduce for made in sums} == {"tree", "carry-save"}  # pyright: ignore


@pytest.mark.skipif(not cells.PACKAGE.exists(), reason="qflow-tech-osu018 is not installed")
def test_osu018_has_every_part() -> None:
    technology = cells.technology()
    names = {name: role.cell.name for name, role in technology.roles.items()}
    assert names == {
        "full": "FAX1", "half": "HAX1", "invert": "INVX1", "and": "AND2X1", "latch": "LATCH",
        "flop": "DFFPOSX1",
    }  # fmt: skip
    assert technology.cell("LATCH").area == 56
