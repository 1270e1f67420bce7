"""The `mulfree` command: finds its sub-commands by entry point and loads one when it is called."""

import signal
import sys
from importlib.metadata import entry_points

import click

from mulfree import __version__


class Commands(click.Group):
    """A group whose commands are the entry points of the group ``mulfree.commands``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, sorted."""
        return sorted(entry_points(group="mulfree.commands").names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        found = entry_points(group="mulfree.commands", name=cmd_name)
        return next(iter(found)).load() if found else None


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mulfree")
def commands() -> None:
    r"""Generate neural-network hardware that never uses a multiplier.

    \b
    Examples:
      mulfree list
      mulfree generate lutna --act-bits 8 --weight-bits 8 -o out
      mulfree regress lutna --act-bits 8 --weight-bits 8
      mulfree evaluate array --kind lutna --outputs 4 --lanes 8 --target ecp5
      mulfree demo
    """


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    # Whoever ends us ends the tools that we have started, too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = commands.main(prog_name="mulfree", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
        code = 0
    except click.ClickException as error:
        click.echo(f"mulfree: {' '.join(error.format_message().split())}", err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("mulfree: cancelled", err=True)
        code = 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader, `head` for one, has gone: nothing more to say
        code = 141
    sys.exit(code if isinstance(code, int) else 0)
