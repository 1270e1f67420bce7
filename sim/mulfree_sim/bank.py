"""Many small cores side by side in one simulation: every weight × every activation of all of them.

Compiling takes longer than simulating small cores, so that hundreds of Specs of one lane and one
output, of any units, are checked in the time of a few.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mulfree.emit import component_verilog
from mulfree.files import write_text
from mulfree.units.core import CoreSpec
from mulfree_sim import runner

#: Name of the top module.
TOP = "mulfree_bank"


class Bank(wiring.Component):
    """Cores that share an activation and a weight, of which each takes as many low bits as it has.

    Members
    -------
    act : In(16)
        The activation.
    weight : In(16)
        The code of the weight.
    load : In(1)
        Every loadable core is to take the weight from now on.
    retire : In(1)
        Every loadable core gives up its weight.
    loaded : Out(1)
        All cores have their weight.
    results : Out
        The cores' results, the first core's in the low bits.

    Raises
    ------
    ValueError
        A core has more than one lane or output, or no fixed latency.
    """

    port_help = {
        "act": "the activation, each core takes its low bits",
        "weight": "the code of the weight, each core takes its low bits",
        "load": "every loadable core is to take the weight",
        "retire": "every loadable core gives up its weight",
        "loaded": "all cores have their weight",
        "results": "the cores' results, the first core's in the low bits",
    }

    def __init__(self, specs: Sequence[CoreSpec]) -> None:
        for spec in specs:
            if (spec.lanes, spec.outputs) != (1, 1):
                raise ValueError(
                    f"specs must have one lane and one output, not {spec.lanes} and {spec.outputs}"
                )
            if spec.latency is None:
                raise ValueError(f"specs must have a fixed latency, not {spec.unit}'s")
        self._specs = list(specs)
        super().__init__(
            {
                "act": In(16),
                "weight": In(16),
                "load": In(1),
                "retire": In(1),
                "loaded": Out(1),
                "results": Out(sum(spec.dot_bits for spec in specs)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the cores and, for each that is loadable, a note that its weight is still due."""
        m = Module()
        results, loaded = [], []
        for i, spec in enumerate(self._specs):
            m.submodules[f"core_{i}"] = core = spec.component()
            m.d.comb += [core.en.eq(1), core.act.as_value().eq(self.act)]
            results.append(core.result.as_value())
            if spec.loadable:
                due = Signal(name=f"due_{i}")
                with m.If(self.load):
                    m.d.sync += due.eq(1)
                with m.Elif(core.weight.ready):
                    m.d.sync += due.eq(0)
                m.d.comb += [
                    core.weight.payload.eq(self.weight),
                    core.weight.valid.eq(due),
                    core.retire.eq(self.retire),
                ]
                loaded.append(core.loaded)
        m.d.comb += [self.results.eq(Cat(results)), self.loaded.eq(Cat(loaded).all())]
        return m


def regress(
    specs: Sequence[CoreSpec], *, simulator: str = "verilator", seed: int | None = None
) -> runner.Result:
    """Compare every product of every core with its golden model."""
    about = f"{len(specs)} cores side by side"
    with tempfile.TemporaryDirectory(prefix="mulfree-bank-") as scratch:
        listed = [spec.to_dict() for spec in specs]
        path = write_text(Path(scratch) / "specs.json", json.dumps(listed))
        return runner.run(
            component_verilog(Bank(specs), TOP, about),
            TOP,
            "mulfree_sim.benches.bank",
            simulator=simulator,
            seed=seed,
            environment={"MULFREE_SETTINGS": json.dumps({"specs": str(path)})},
        )
