"""Every parameter of every unit: what is legal round-trips, what is not gets one sentence."""

import dataclasses

import pytest

from mulfree.catalog import KINDS, UNITS, spec_class
from mulfree.spec import Spec, SpecError

#: What a Spec asks of the core within it, where the core's defaults do not do.
CORE = {
    "network": {"outputs": 4, "lanes": 36},
    "networksoc": {"outputs": 4, "lanes": 36},
    "soc": {"lanes": 4},
}


def example(unit: str) -> Spec:
    """The unit with its defaults."""
    kind = spec_class(unit)
    nested = {
        f.name: spec_class(f.metadata["units"][0])(**CORE.get(unit, {}))
        for f in dataclasses.fields(kind)
        if f.metadata["kind"] == "nested"
    }
    return kind(**nested)


def fields(kind_of_field: str) -> list[tuple[str, str]]:
    return [
        (unit, f.name)
        for unit in UNITS
        for f in dataclasses.fields(spec_class(unit))
        if f.metadata["kind"] == kind_of_field
    ]


def rule(unit: str, name: str) -> dict:
    return dict(next(f for f in dataclasses.fields(spec_class(unit)) if f.name == name).metadata)


@pytest.mark.parametrize(("unit", "name"), fields("integer"))
def test_integer_out_of_range(unit: str, name: str) -> None:
    low, high, unset = (rule(unit, name)[key] for key in ("low", "high", "unset"))
    for value in {low - 1, high + 1} - {unset}:
        sentence = f"^{name} must be between {low} and {high}, not {value}$"
        with pytest.raises(SpecError, match=sentence):
            dataclasses.replace(example(unit), **{name: value})


@pytest.mark.parametrize(("unit", "name"), fields("integer"))
@pytest.mark.parametrize("value", [True, 2.0, "2", None])
def test_integer_of_wrong_kind(unit: str, name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be an integer, not "):
        dataclasses.replace(example(unit), **{name: value})


@pytest.mark.parametrize(("unit", "name"), fields("choice"))
def test_unknown_choice(unit: str, name: str) -> None:
    with pytest.raises(SpecError, match=f"^{name} must be one of .*, not 'nonsense'$"):
        dataclasses.replace(example(unit), **{name: "nonsense"})


@pytest.mark.parametrize(("unit", "name"), fields("flag"))
def test_flag_is_no_integer(unit: str, name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be true or false, not 1$"):
        dataclasses.replace(example(unit), **{name: 1})


@pytest.mark.parametrize(("unit", "name"), fields("nested"))
def test_nested_spec_of_another_family(unit: str, name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be the Spec of one of "):
        dataclasses.replace(example(unit), **{name: example("array")})


@pytest.mark.parametrize("unit", UNITS)
def test_json_round_trip(unit: str) -> None:
    spec = example(unit)
    assert Spec.from_json(spec.to_json()) == spec
    assert type(spec).from_json(spec.to_json()) == spec


@pytest.mark.parametrize("unit", UNITS)
def test_unknown_parameter(unit: str) -> None:
    with pytest.raises(SpecError, match=f"^nonsense is not a parameter of {unit}$"):
        type(example(unit)).from_dict({**example(unit).to_dict(), "nonsense": 1})


def test_unknown_unit() -> None:
    with pytest.raises(SpecError, match=r"^unit must be one of lutna, .*, not 'nonsense'$"):
        Spec.from_dict({"unit": "nonsense"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"weights": "constant"}, "matrix must be given when weights is constant, not None"),
        ({"matrix": [[1]]}, "matrix must be left out when weights is loadable, not given"),
        (
            {"weights": "constant", "matrix": [[1, 2]]},
            "matrix must have 1 rows of 1, not 1 rows of 2",
        ),
        (
            {"weights": "constant", "matrix": [[1, 2], [3]]},
            r"matrix must have equally long rows, not lengths \[2, 1\]",
        ),
        (
            {"weights": "constant", "matrix": [[1]], "double_buffer": True},
            "double_buffer must be false when weights is constant, not True",
        ),
    ],
)
def test_constant_weights(kind: str, fields: dict, sentence: str) -> None:
    with pytest.raises(SpecError, match=f"^{sentence}$"):
        Spec.from_dict({"unit": kind, **fields})


def test_matrix_entry_out_of_range() -> None:
    with pytest.raises(SpecError, match=r"^matrix entries must be between -8 and 7, not 8$"):
        Spec.from_dict({"unit": "lutna", "weights": "constant", "weight_bits": 4, "matrix": [[8]]})


@pytest.mark.parametrize("entry", [1.5, True, "1"])
def test_matrix_entry_of_wrong_kind(entry: object) -> None:
    with pytest.raises(TypeError, match=r"^matrix must be a matrix of integers, not one with "):
        Spec.from_dict({"unit": "lutna", "weights": "constant", "matrix": [[entry]]})
