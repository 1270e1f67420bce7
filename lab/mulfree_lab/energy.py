"""Energy of a mapped netlist from its activity: switching, internal, clock and leakage.

A net that rises or falls costs ``C·V²/2``: C is what its pins and wires hold. A cell's output that
rises or falls costs what the Liberty tables say at its load and slew, the mean over the inputs that
may have caused it; input pins that have tables of their own (a flip-flop's clock and data) cost
theirs. docs/energy.md has the method and its uncertainty.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from mulfree.spec import SpecError
from mulfree.units.baseline import BaselineSpec
from mulfree.units.core import CoreSpec
from mulfree_lab.activity import SLEW, Activity, Stimulus, Timed
from mulfree_lab.liberty import Energy
from mulfree_lab.netlist import Bit


@dataclass(frozen=True)
class Breakdown:
    """Energy of a run in pJ, by cause.

    Members
    -------
    switching
        Charging of data nets.
    internal
        Inside cells, clock pins apart.
    clock
        Charging of clock nets and what clock pins cost inside flip-flops and latches.
    leakage
        Leakage power for as long as the run took.
    """

    switching: float
    internal: float
    clock: float
    leakage: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.switching + self.internal + self.clock + self.leakage

    def __add__(self, other: "Breakdown") -> "Breakdown":
        """Return the sum, cause by cause."""
        theirs = asdict(other)
        return Breakdown(**{name: value + theirs[name] for name, value in asdict(self).items()})

    def per(self, count: float) -> "Breakdown":
        """Return each cause over a count, of MACs for one."""
        return Breakdown(**{name: value / count for name, value in asdict(self).items()})

    def to_dict(self) -> dict[str, float]:
        """Return rounded figures, the total first."""
        parts = {name: round(value, 4) for name, value in asdict(self).items()}
        return {"total": round(self.total, 4), **parts}


def energy(timed: Timed, activity: Activity) -> Breakdown:
    """Return what a run cost while it counted."""
    library, half = timed.library, timed.library.voltage**2 / 2
    toggles: dict[Bit, int] = {
        bit: activity.rises[bit] + activity.falls[bit]
        for bit in activity.rises.keys() | activity.falls.keys()
    }
    charged = {bit: half * timed.load.get(bit, 0.0) * n for bit, n in toggles.items()}
    clock = sum(e for bit, e in charged.items() if bit in timed.clocks)
    switching = sum(charged.values()) - clock
    internal, leakage = 0.0, 0.0
    for cell in timed.netlist.cells:
        made = library.cells[cell.type]
        leakage += made.leakage
        for name, bits in (cell.outputs | cell.inputs).items():
            bit, pin = bits[0], made.pins[name]
            if not pin.energies or not toggles.get(bit):
                continue
            if pin.output:
                slews = [timed.slew.get(b, SLEW) for [b] in cell.inputs.values()]
                slew = sum(slews) / len(slews) if slews else SLEW
                load = timed.load.get(bit, 0.0)
            else:
                slew, load = timed.slew.get(bit, SLEW), 0.0
            cost = _mean(pin.energies, "rise", load, slew) * activity.rises[bit]
            cost += _mean(pin.energies, "fall", load, slew) * activity.falls[bit]
            if bit in timed.clocks:
                clock += cost
            else:
                internal += cost
    # nW times ns is 10⁻¹⁸ J.
    leaked = leakage * activity.clocks * activity.period * 1e-6
    return Breakdown(switching, internal, clock, leaked)


def _mean(energies: Iterable[Energy], edge: str, load: float, slew: float) -> float:
    tables = [getattr(entry, edge) for entry in energies]
    values = [table(load, slew) for table in tables if table]
    return sum(values) / len(values) if values else 0.0


def core_stimulus(spec: CoreSpec, weights: ArrayLike, act: ArrayLike) -> Stimulus:
    """Return what loads a tile into a core and then streams activations through it.

    Counting begins when the pipeline is full of activations.

    Parameters
    ----------
    weights
        Shape (outputs, lanes).
    act
        Shape (n, lanes).

    Raises
    ------
    SpecError
        The core's weights are constant.
    """
    if not spec.loadable:
        raise SpecError("weights must be loadable to be loaded, not constant")
    tile = np.asarray(weights)
    codes = [int(code) for code in spec.weight_format.encode(tile.T.ravel())]
    # A full look-up table is filled while its weight is offered.
    held = 1 << spec.act_bits if isinstance(spec, BaselineSpec) and spec.form == "direct" else 1
    cycles: list[dict[str, int]] = [{"rst": 1, "en": 1}, {"rst": 1}, {"rst": 0}]
    for code in codes:
        cycles += [{"weight__valid": 1, "weight__payload": code}] * held
    cycles += [{"weight__valid": 0}] * 2
    latency = spec.latency or 0
    rows = [{"act": pack(row, spec.act_bits)} for row in np.asarray(act).tolist()]
    begin = len(cycles) + latency + 1
    return Stimulus([*cycles, *rows], begin)


def core_results(spec: CoreSpec, activity: Activity, count: int) -> list[list[int | None]]:
    """Return the results that came out for the first activations of a run, one row each."""
    latency = spec.latency or 0
    rows: list[list[int | None]] = []
    start = len(activity.outputs) - count
    for row in activity.outputs[start + latency :]:
        word = row["result"]
        rows.append(
            [None] * spec.outputs if word is None else unpack(word, spec.dot_bits, spec.outputs)
        )
    return rows


def pack(values: Sequence[int], width: int) -> int:
    """Return values as one integer, the first in the low bits."""
    mask = (1 << width) - 1
    return sum((value & mask) << (place * width) for place, value in enumerate(values))


def unpack(word: int, width: int, count: int) -> list[int]:
    """Return `count` two's complement values of `width` bits, the first from the low bits."""
    top = 1 << (width - 1)
    fields = [word >> (place * width) & ((1 << width) - 1) for place in range(count)]
    return [(field ^ top) - top for field in fields]
