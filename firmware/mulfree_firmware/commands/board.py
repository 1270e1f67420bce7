"""`mulfree board`: what is on a port, or a virtual board to be there."""

import ipaddress
import json
from pathlib import Path
from typing import Any

import click

from mulfree.options import given_fields
from mulfree.soc.networksoc import NetworkSocSpec
from mulfree.soc.options import board_names, system, system_options
from mulfree.spec import SpecError
from mulfree_firmware.client import Board, BoardError
from mulfree_firmware.commands.run import read_network
from mulfree_firmware.line import Line, LineError


def board(
    virtual: str | None, on: str | None, network: Path | None, baud: int, host: str,
    tcp_port: int, pty: bool, as_json: bool, **values: Any,
) -> None:  # fmt: skip
    """Describe the board on a port, or run a virtual one until it is interrupted."""
    if (virtual is None) == (on is None):
        raise click.UsageError("one of --virtual BOARD and --on PORT must be given")
    if on is not None:
        describe(on, baud, as_json)
        return
    assert virtual is not None
    from mulfree_sim import virtual_board
    from mulfree_sim.runner import SimulationError

    base = system(virtual, values)
    spec = virtual_board.on_the_line(base if network is None else around(network, values))
    try:
        outside = not pty and not ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise click.UsageError(f"host must be an IP address, not {host!r}") from None
    if not 0 <= tcp_port <= 65535:
        raise click.UsageError(f"tcp-port must be between 0 and 65535, not {tcp_port}")
    click.echo(f"compiling the virtual {virtual} …", err=True)
    try:
        with virtual_board.VirtualBoard(spec, host=host, tcp_port=tcp_port, pty=pty) as running:
            if as_json:
                click.echo(json.dumps({"port": running.port, "spec": spec.to_dict()}))
            else:
                click.echo(running.port)
            if outside:
                click.echo("anyone who reaches this machine can use the board", err=True)
            click.echo("the board runs until it is interrupted", err=True)
            running.wait()
    except SimulationError as error:
        raise click.ClickException(str(error)) from None


def around(path: Path, values: dict[str, Any]) -> NetworkSocSpec:
    """Return a network engine for a program; a user's mistake is a sentence."""
    if given := given_fields() & set(values):
        raise click.UsageError(
            f"{', '.join(sorted(given))} must be the program's, and not given with --network"
        )
    program = read_network(path)
    if program is None:
        raise click.UsageError(f"{path} must be a network's program, MFP2, not dense layers")
    try:
        return NetworkSocSpec.for_program(program)
    except (SpecError, TypeError) as error:
        raise click.UsageError(f"{path}: {error}") from None


def describe(port: str, baud: int, as_json: bool) -> None:
    """Print what a board is."""
    try:
        able = Board(Line(port, baud=baud)).discover()
    except (LineError, BoardError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        facts = {"port": port, "kind": able.kind, "program_words": able.program_words,
                 "data_words": able.data_words, "engine": able.target.describe(),
                 "network": able.network.to_dict() if able.network else None}  # fmt: skip
        click.echo(json.dumps(facts))
    else:
        click.echo(able.describe())


command = click.Command(
    "board",
    callback=board,
    params=[
        click.Option(["--virtual"], metavar="BOARD", help=f"run a virtual {board_names()}"),
        click.Option(["--on"], metavar="PORT", help="describe the board on a serial port or URL"),
        click.Option(
            ["--network"],
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="NET.mfp",
            help="a virtual board with a network engine for this program instead of its own",
        ),
        click.Option(["--baud"], default=115200, show_default=True, help="speed of the port"),
        click.Option(
            ["--host"],
            default="127.0.0.1",
            show_default=True,
            help="address that a virtual board listens on",
        ),
        click.Option(
            ["--tcp-port"], default=0, help="its TCP port  [default: a free one]", type=int
        ),
        click.Option(["--pty"], is_flag=True, help="a pseudo-terminal in place of a TCP port"),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines"),
        *system_options(),
    ],
    help="Describe a board, or run a virtual one: the generated Verilog of the whole system.\n\n"
    "Example: mulfree board --virtual icebreaker --tcp-port 4000",
)
