"""The command line: bad input is one line and exit code 2, and leaves nothing behind."""

import dataclasses
import json
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mulfree import cli
from mulfree.catalog import UNITS, spec_class


@pytest.fixture
def mulfree(monkeypatch, capsys, tmp_path):
    """Run a command line in an empty folder; return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["mulfree", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


def assert_refused(result: tuple[object, str, str], *parts: str) -> None:
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.startswith("mulfree: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def bad_words() -> list[tuple[str, str, str]]:
    """(unit, option, bad value) for every parameter of every unit that takes a value."""
    found = []
    for unit in UNITS:
        for f in dataclasses.fields(spec_class(unit)):
            option = f"--{f.name.replace('_', '-')}"
            match f.metadata["kind"]:
                case "integer":
                    found += [(unit, option, str(f.metadata["high"] + 1)), (unit, option, "two")]
                case "choice":
                    found.append((unit, option, "nonsense"))
                case "matrix":
                    found.append((unit, option, "missing.npy"))
                case "nested":
                    found.append((unit, "--kind", "nonsense"))
    return found


@pytest.mark.parametrize(("unit", "option", "value"), bad_words())
def test_bad_value_of_every_parameter(mulfree, tmp_path: Path, unit, option, value) -> None:
    assert_refused(mulfree("generate", unit, option, value, "-o", "out"), value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["generate", "regress", "prove", "evaluate"])
def test_unknown_unit_and_option(mulfree, command: str) -> None:
    assert_refused(mulfree(command, "nonsense"), "unit must be one of lutna", "'nonsense'")
    assert_refused(mulfree(command, "lutna", "--nonsense", "1"), "--nonsense")


def test_unknown_command(mulfree) -> None:
    assert_refused(mulfree("nonsense"), "nonsense")


def test_option_of_another_kind(mulfree) -> None:
    words = ("generate", "array", "--kind", "baseline", "--digit-bits", "2")
    assert_refused(mulfree(*words), "digit_bits is not a parameter of baseline")


def test_name_must_have_the_prefix(mulfree, tmp_path: Path) -> None:
    assert_refused(mulfree("generate", "lutna", "--name", "mac"), "mulfree_", "'mac'")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder(mulfree, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file in the way")
    assert_refused(mulfree("generate", "lutna", "-o", "out"), "out")


def test_damaged_matrix_file(mulfree, tmp_path: Path) -> None:
    (tmp_path / "w.npy").write_bytes(b"\x93NUMPY damaged")
    words = ("generate", "lutna", "--weights", "constant", "--matrix", "w.npy", "-o", "out")
    assert_refused(mulfree(*words), "matrix must be a readable matrix file, not w.npy")


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_matrix_file(mulfree, tmp_path: Path, suffix: str) -> None:
    text = {"csv": "1,-2\n3,4\n", "json": "[[1, -2], [3, 4]]"}[suffix]
    (tmp_path / f"w.{suffix}").write_text(text)
    code, _, err = mulfree(
        "generate", "lutna", "--outputs", "2", "--lanes", "2", "--weights", "constant",
        "--matrix", f"w.{suffix}",
    )  # fmt: skip
    assert (code, err) == (0, "")
    manifest = json.loads((tmp_path / "mulfree_lutna.json").read_text())
    assert manifest["spec"]["matrix"] == [[1, -2], [3, 4]]


def test_list(mulfree) -> None:
    code, out, _ = mulfree("list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(UNITS)
    code, out, _ = mulfree("list", "--json")
    assert [row["name"] for row in json.loads(out)["units"]] == list(UNITS)


def test_help_names_every_command(mulfree) -> None:
    code, out, _ = mulfree("--help")
    assert code == 0
    assert all(name in out for name in entry_points(group="mulfree.commands").names)


@pytest.mark.parametrize("command", sorted(entry_points(group="mulfree.commands").names))
def test_every_command_has_help_with_an_example(mulfree, command: str) -> None:
    code, out, _ = mulfree(command, "--help")
    assert code == 0
    assert f"mulfree {command}" in out


def test_generate_json(mulfree, tmp_path: Path) -> None:
    code, out, _ = mulfree("generate", "lutna", "-o", "out", "--json")
    assert code == 0
    assert json.loads(out)["files"] == ["out/mulfree_lutna.v", "out/mulfree_lutna.json"]
    assert all((tmp_path / name).exists() for name in json.loads(out)["files"])
