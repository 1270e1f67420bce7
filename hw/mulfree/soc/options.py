"""Command-line options of a system: a board's own, and every parameter that may differ from it."""

from typing import Any

import click

from mulfree.options import given_fields, spec_options
from mulfree.soc.presets import PRESETS, changed, preset
from mulfree.soc.top import SocSpec


def system_options() -> list[click.Parameter]:
    """Return an option for each parameter of a system, none of which has a default."""
    options = spec_options(SocSpec)
    for option in options:
        option.default = None
        option.required = False
        assert isinstance(option, click.Option)
        option.show_default = False
        option.help = f"{(option.help or '').split('  [')[0]}  [default: the board's]"
    return options


def system(board: str, values: dict[str, Any]) -> SocSpec:
    """Return the board's system with what the user gave.

    Raises
    ------
    click.UsageError
        There is no such board, or a value breaks a rule.
    """
    try:
        base = preset(board)
        given = {name: values[name] for name in given_fields() if name in values}
        return changed(base, given)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def board_names() -> str:
    """Return the boards in one line, for a help text."""
    return ", ".join(PRESETS)
