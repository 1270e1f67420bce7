"""Command-line options of a unit, derived from the declarations in its Spec."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from mulfree.catalog import UNITS, spec_class
from mulfree.spec import Spec


def unit_group(
    name: str, help: str, run: Callable[..., Any], extra: list[click.Parameter] | None = None
) -> click.Group:
    """Return a command ``NAME UNIT [options]`` with a sub-command for every unit of the catalogue.

    Parameters
    ----------
    run
        Called as ``run(spec, **values of extra)``.
    extra
        Options of the command itself; every unit gets them besides its own.
    """

    class Units(click.Group):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return list(UNITS)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            if cmd_name not in UNITS:
                raise click.UsageError(f"unit must be one of {', '.join(UNITS)}, not {cmd_name!r}")
            return _unit_command(name, cmd_name, run, extra or [])

    return Units(name, help=help)


def _unit_command(
    name: str, unit: str, run: Callable[..., Any], extra: list[click.Parameter]
) -> click.Command:
    kind = spec_class(unit)
    extra_names = {parameter.name for parameter in extra}

    def callback(**values: Any) -> Any:
        own = {key: values.pop(key) for key in extra_names}
        return run(spec_from_options(kind, values), **own)

    return click.Command(
        unit, params=[*spec_options(kind), *extra], callback=callback,
        help=f"{(kind.__doc__ or unit).strip().splitlines()[0]}\n\n"
        f"Example: mulfree {name} {unit} {EXAMPLES.get(unit, '')}",
    )  # fmt: skip


#: Options that show a unit at work, for its help text.
EXAMPLES = {
    "lutna": "--act-bits 8 --weight-bits 8",
    "pot": "--weight-bits 4 --terms 1",
    "skip": "--weight-bits 4",
    "baseline": "--form booth",
    "array": "--kind lutna --outputs 4 --lanes 8",
}


def spec_options(kind: type[Spec]) -> list[click.Parameter]:
    """Return an option for every field of a Spec; a nested Spec adds ``--kind`` and its fields."""
    options: dict[str, click.Parameter] = {}
    for f in dataclasses.fields(kind):
        if f.metadata["kind"] == "nested":
            units = f.metadata["units"]
            options["kind"] = click.Option(
                ["--kind"], type=click.Choice(units), default=units[0], show_default=True,
                help=f.metadata["help"],
            )  # fmt: skip
            for unit in units:
                for option in spec_options(spec_class(unit)):
                    assert option.name is not None
                    options.setdefault(option.name, option)
        else:
            options[f.name] = _option(f)
    return list(options.values())


def _option(f: dataclasses.Field) -> click.Option:
    rule, flag = f.metadata, f"--{f.name.replace('_', '-')}"
    shown = f"  [default: {str(f.default).lower() if rule['kind'] == 'flag' else f.default}]"
    match rule["kind"]:
        case "integer":
            if f.default == rule["unset"]:
                shown = "  [default: derived]"
            span = f"{rule['low']}…{rule['high']}"
            return click.Option([flag], type=int, help=f"{rule['help']} ({span}){shown}")
        case "choice":
            help = f"{rule['help']} ({', '.join(rule['options'])}){shown}"
            return click.Option([flag], type=str, help=help)
        case "flag":
            return click.Option(
                [f"{flag}/--no-{flag[2:]}"], default=None, help=rule["help"] + shown
            )
    help = f"{rule['help']}; a .npy, .csv or .json file"
    return click.Option([flag], type=click.Path(path_type=Path), help=help)


def given_fields() -> frozenset[str]:
    """Return the parameters of the Spec that the user set in the command that is running."""
    params = click.get_current_context().params
    return frozenset(name for name, value in params.items() if value is not None)


def spec_from_options(kind: type[Spec], values: dict[str, Any]) -> Spec:
    """Build a Spec from option values, where None stands for "not given".

    Raises
    ------
    click.UsageError
        A value breaks a rule, with the Spec's own sentence.
    """
    given = {
        name: read_matrix(name, value) if isinstance(value, Path) else value
        for name, value in values.items()
        if value is not None
    }
    try:
        return kind.from_dict(gather(kind, given))
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def gather(kind: type[Spec], given: dict[str, Any]) -> dict[str, Any]:
    """Return flat values as `Spec.from_dict` takes them: those of a nested Spec in its own."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for f in fields.values():
        if f.metadata["kind"] == "nested":
            own = {name: given.pop(name) for name in list(given) if name in fields}
            return own | {f.name: {"unit": given.pop("kind"), **given}}
    return given


def read_matrix(name: str, path: Path) -> Any:
    """Return the rows of a matrix file, or raise a usage error that names the parameter."""
    try:
        match path.suffix:
            case ".npy":
                return np.load(path, allow_pickle=False).tolist()
            case ".csv":
                return np.loadtxt(path, dtype=np.int64, delimiter=",", ndmin=2).tolist()
            case ".json":
                return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise click.UsageError(
            f"{name} must be a readable matrix file, not {path}: {error}"
        ) from None
    raise click.UsageError(f"{name} must be a .npy, .csv or .json file, not {path}")


def command_line(spec: Spec) -> str:
    """Return the ``mulfree generate`` command that makes this Spec, defaults left out."""
    return " ".join(["mulfree", "generate", spec.unit, *_words(spec)])


def _words(spec: Spec) -> list[str]:
    words = []
    for f in dataclasses.fields(spec):
        value, flag = getattr(spec, f.name), f.name.replace("_", "-")
        if isinstance(value, Spec):
            words += ["--kind", value.unit, *_words(value)]
        elif value == f.default:
            continue
        elif f.metadata["kind"] == "flag":
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif f.metadata["kind"] == "matrix":
            words += [f"--{flag}", "FILE"]
        else:
            words += [f"--{flag}", str(value)]
    return words
