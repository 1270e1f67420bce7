"""`mulfree boards`: what a system can be built for."""

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mulfree_boards import BOARDS
from mulfree_boards.board import Board


def describe(board: Board) -> dict[str, Any]:
    """Return a board as plain JSON types."""
    device, core = board.device, board.core
    return {
        "board": board.name,
        "title": board.title,
        "device": device.name,
        "technology": device.technology,
        "available": {"lut": device.luts, "ff": device.ff, "ram": device.ram, "dsp": device.dsp},
        "clock_hz": board.clock_hz,
        "bridge": board.bridge,
        "tools": "Vivado" if board.zynq else "pip",
        "loader": board.loader,
        "spec": board.system.to_dict(),
        "engine": {"kind": core.unit, "outputs": core.outputs, "lanes": core.lanes},
    }


def boards(as_json: bool) -> None:
    """List the boards."""
    if as_json:
        click.echo(json.dumps([describe(board) for board in BOARDS.values()], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("board", "chip", "LUTs", "clock", "engine", "reached over", "built with"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "LUTs" else "left")
    for board in BOARDS.values():
        facts = describe(board)
        engine = facts["engine"]
        table.add_row(
            board.name, board.device.name, f"{board.device.luts:,}",
            f"{board.clock_hz / 1e6:g} MHz",
            f"{engine['kind']} {engine['outputs']} × {engine['lanes']}",
            {"uart": "USB serial", "axilite": "AXI4-Lite"}[board.bridge], facts["tools"],
        )  # fmt: skip
    Console(width=100, highlight=False).print(table)


command = click.Command(
    "boards",
    callback=boards,
    params=[click.Option(["--json", "as_json"], is_flag=True, help="print JSON for machines")],
    help="List the boards, with the engine that each carries by default.\n\n"
    "Example: mulfree boards",
)
