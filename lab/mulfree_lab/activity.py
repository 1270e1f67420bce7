"""Gate-level simulation with delays, and the toggles of every net.

The netlist is written out with a delay for each output of each cell, taken from the Liberty tables
at the load it drives and the slew it sees, so that glitches happen where they would. Icarus runs
it; what changes goes through a pipe, is counted and thrown away. Pulses shorter than a cell's delay
die in it (inertial delay). Clock nets, gated ones too, have no delay: a balanced clock tree.
"""

import os
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mulfree_lab.cells import CellTechnology
from mulfree_lab.liberty import Arc, Library, LibraryCell, Pin, verilog
from mulfree_lab.netlist import Bit, Cell, Netlist

#: Capacitance of the wire to each pin that a net drives, in pF: 25 µm at 0.2 fF/µm.
WIRE = 0.005
#: Slew at inputs, and of the clock everywhere, in ns.
SLEW = 0.06


class ActivityError(RuntimeError):
    """A simulation could not be made; the message says why."""


def tool() -> str:
    """Return the simulator's command.

    Raises
    ------
    ActivityError
        Icarus Verilog is not installed.
    """
    found = shutil.which("iverilog")
    if found is None:
        raise ActivityError("energy must have Icarus Verilog: apt-get install iverilog")
    return found


@dataclass(frozen=True)
class Timed:
    """A netlist with the load (pF) and slew (ns) of each net and its latest arrival (ns).

    Members
    -------
    delays
        (rise, fall) in ns of each driven net, 0 on clock nets.
    clocks
        Nets on the way of a clock.
    """

    netlist: Netlist
    library: Library
    load: dict[Bit, float]
    slew: dict[Bit, float]
    arrival: dict[Bit, float]
    delays: dict[Bit, tuple[float, float]]
    clocks: frozenset[Bit]

    @property
    def period(self) -> float:
        """The longest way from register to register, and a quarter more, in ns."""
        return 1.25 * max(self.arrival.values(), default=1.0) + 1.0


def annotate(netlist: Netlist, technology: CellTechnology, wire: float = WIRE) -> Timed:
    """Return loads, slews, delays and arrivals of a mapped netlist.

    A net's load is the capacitance of every input pin on it, and `wire` for each. Slews go from
    inputs to outputs with the loads; the worst of a cell's inputs counts. Input ports are driven by
    the library's flip-flop.
    """
    library = technology.library
    load: Counter[Bit] = Counter()
    for cell in netlist.cells:
        pins = library.cells[cell.type].pins
        for name, [bit] in cell.inputs.items():
            load[bit] += pins[name].capacitance + wire
    for bits in netlist.outputs.values():
        for bit in bits:
            load[bit] += wire
    clocks = _clock_nets(netlist, library)
    drivers = netlist.drivers()
    slew: dict[Bit, float] = {}
    arrival: dict[Bit, float] = {}
    delays: dict[Bit, tuple[float, float]] = {}
    flop = technology.roles["flop"]
    [source] = (made for made in flop.cell.outputs if made.name == flop.outputs["q"])
    for name, bits in netlist.inputs.items():
        for bit in bits if name != "clk" else []:
            rise, fall, slew[bit] = _arc(source.arcs[0], load[bit], SLEW)
            delays[bit], arrival[bit] = (rise, fall), max(rise, fall)
    for cell in _in_order(netlist, library, drivers):
        made = library.cells[cell.type]
        for name, [net] in cell.outputs.items():
            pin = made.pins[name]
            if net in clocks:
                delays[net], slew[net], arrival[net] = (0.0, 0.0), SLEW, 0.0
                continue
            rises, falls, slews, arrives = [], [], [], []
            for arc in pin.arcs:
                source = next(iter(cell.inputs.get(arc.pin, ["0"])))
                edge = slew.get(source, SLEW)
                rise, fall, after = _arc(arc, load[net], edge)
                rises.append(rise)
                falls.append(fall)
                slews.append(after)
                start = 0.0 if made.storage else arrival.get(source, 0.0)
                arrives.append(start + max(rise, fall))
            count = len(pin.arcs) or 1
            delays[net] = sum(rises) / count, sum(falls) / count
            slew[net] = max(slews, default=SLEW)
            arrival[net] = max(arrives, default=0.0)
    return Timed(netlist, library, dict(load), slew, arrival, delays, clocks)


def _arc(arc: Arc, load: float, slew: float) -> tuple[float, float, float]:
    def at(table: object, default: float) -> float:
        return max(table(load, slew), 0.001) if callable(table) else default

    rise, fall = at(arc.rise, 0.0), at(arc.fall, 0.0)
    return rise, fall, max(at(arc.rise_slew, SLEW), at(arc.fall_slew, SLEW))


def _clock_nets(netlist: Netlist, library: Library) -> frozenset[Bit]:
    """Return the nets at flip-flops' clock pins, and those before them through logic."""
    drivers = netlist.drivers()
    waiting = []
    for cell in netlist.cells:
        store = library.cells[cell.type].storage
        if store and store.kind == "ff":
            waiting += cell.inputs[_clock_pin(library.cells[cell.type])]
    found: set[Bit] = set()
    while waiting:
        bit = waiting.pop()
        if bit in found or not isinstance(bit, int):
            continue
        driver = drivers.get(bit)
        if driver is not None and library.cells[driver.type].storage:
            continue  # the latch of a clock gate
        found.add(bit)
        if driver is not None:
            waiting += [b for bits in driver.inputs.values() for b in bits]
    return frozenset(found)


def _clock_pin(cell: LibraryCell) -> str:
    assert cell.storage is not None
    return cell.storage.clock.strip("!()' ")


def _in_order(netlist: Netlist, library: Library, drivers: Mapping[Bit, Cell]) -> list[Cell]:
    """Return the cells, those that store first, every other behind what drives it."""
    order, done = [], set()
    stored = [cell for cell in netlist.cells if library.cells[cell.type].storage]
    for cell in stored:
        order.append(cell)
        done.add(cell.name)
    for first in netlist.cells:
        stack = [first]
        while stack:
            cell = stack[-1]
            if cell.name in done:
                stack.pop()
                continue
            before = [
                drivers[bit]
                for bits in cell.inputs.values()
                for bit in bits
                if bit in drivers and drivers[bit].name not in done
            ]
            if before:
                stack += before
            else:
                stack.pop()
                done.add(cell.name)
                order.append(cell)
    return order


@dataclass(frozen=True)
class Stimulus:
    """What the inputs are, clock by clock, and when counting begins.

    Members
    -------
    cycles
        A value for every input port but the clock, one mapping a clock; what is left out keeps
        its value.
    begin
        The first clock whose toggles count.
    """

    cycles: Sequence[Mapping[str, int]]
    begin: int


@dataclass(frozen=True)
class Activity:
    """How often each net rose and fell while it counted, and the outputs clock by clock."""

    rises: Counter[Bit]
    falls: Counter[Bit]
    clocks: int
    outputs: list[dict[str, int | None]]
    period: float


def simulate(timed: Timed, stimulus: Stimulus, period: float = 0.0) -> Activity:
    """Run a netlist and count.

    Parameters
    ----------
    period
        Clock period in ns; the netlist's own longest way when 0.

    Raises
    ------
    ActivityError
        The simulator is missing, or refuses the netlist.
    """
    compiler = tool()
    netlist = timed.netlist
    picoseconds = round(1000 * (period or timed.period) / 2) * 2
    inputs = [name for name in netlist.inputs if name != "clk"]
    with tempfile.TemporaryDirectory(prefix="mulfree-") as folder:
        here = Path(folder)
        (here / "gates.v").write_text(_gates(timed))
        (here / "bench.v").write_text(_bench(netlist, inputs, stimulus, picoseconds))
        (here / "stimulus.txt").write_text(_rows(netlist, inputs, stimulus))
        built = subprocess.run(
            [compiler, "-g2005", "-o", "sim", "bench.v", "gates.v"],
            cwd=here, capture_output=True, text=True,
        )  # fmt: skip
        if built.returncode:
            raise ActivityError(f"Icarus refused the netlist: {built.stderr.strip()[:300]}")
        os.mkfifo(here / "changes.vcd")
        counter = ToggleCounter()
        reader = threading.Thread(target=_read, args=(here / "changes.vcd", counter))
        reader.start()
        ran = subprocess.run(["vvp", "-n", "sim"], cwd=here, capture_output=True, text=True)
        reader.join()
        if ran.returncode:
            raise ActivityError(f"the simulation failed: {ran.stderr.strip()[:300]}")
        outputs = _outputs(netlist, (here / "outputs.txt").read_text())
    names: dict[str, Bit] = {_net(bit): bit for bit in _nets(netlist)}
    rises = Counter({names[n]: c for n, c in counter.rises().items() if n in names})
    falls = Counter({names[n]: c for n, c in counter.falls().items() if n in names})
    clocks = len(stimulus.cycles) - stimulus.begin
    return Activity(rises, falls, clocks, outputs, picoseconds / 1000)


def _read(path: Path, counter: "ToggleCounter") -> None:
    with path.open() as file:
        counter.feed(file)


class ToggleCounter:
    """Counts what rises and falls in a VCD text as it streams by; only one-bit nets count.

    A change from or to an unknown is none. The values in ``$dumpvars`` are where counting starts.
    """

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}
        self._rises: Counter[str] = Counter()
        self._falls: Counter[str] = Counter()

    def feed(self, lines: Iterable[str]) -> None:
        """Read lines, header first."""
        lines = iter(lines)
        for line in lines:
            words = line.split()
            if words[:1] == ["$var"] and words[2] == "1":
                self._names.setdefault(words[3], []).append(words[4])
            if words[:1] == ["$enddefinitions"]:
                break
        last: dict[str, str] = {}
        rises, falls = self._rises, self._falls
        for line in lines:
            value = line[0]
            if value == "1":
                key = line[1:-1]
                if last.get(key) == "0":
                    rises[key] += 1
                last[key] = "1"
            elif value == "0":
                key = line[1:-1]
                if last.get(key) == "1":
                    falls[key] += 1
                last[key] = "0"
            elif value in "xXzZ":
                last[line[1:-1]] = "x"

    def rises(self) -> dict[str, int]:
        """Return how often each net rose, by its name."""
        return self._by_name(self._rises)

    def falls(self) -> dict[str, int]:
        """Return how often each net fell, by its name."""
        return self._by_name(self._falls)

    def _by_name(self, counts: Counter[str]) -> dict[str, int]:
        return {name: counts[key] for key, names in self._names.items() for name in names}


def _net(bit: Bit) -> str:
    return f"n{bit}" if isinstance(bit, int) else f"1'b{bit if bit in '01' else '0'}"


def _nets(netlist: Netlist) -> set[Bit]:
    nets = {b for cell in netlist.cells for bits in cell.outputs.values() for b in bits}
    nets |= {b for bits in netlist.inputs.values() for b in bits}
    return {bit for bit in nets if isinstance(bit, int)}


def _gates(timed: Timed) -> str:
    """Return the netlist as Verilog with a delay at every output."""
    netlist, library = timed.netlist, timed.library
    ports = [*netlist.inputs, *netlist.outputs]
    lines = ["`timescale 1ns/1ps", f"module gates ({', '.join(ports)});"]
    lines += [f"  input [{len(b) - 1}:0] {name};" for name, b in netlist.inputs.items()]
    lines += [f"  output [{len(b) - 1}:0] {name};" for name, b in netlist.outputs.items()]
    lines += [f"  wire {_net(bit)};" for bit in sorted(_nets(netlist), key=str)]
    for name, bits in netlist.inputs.items():
        for i, bit in enumerate(bits):
            rise, fall = timed.delays.get(bit, (0.0, 0.0))
            delay = f"#({rise:.3f}, {fall:.3f}) " if rise or fall else ""
            lines.append(f"  assign {delay}{_net(bit)} = {name}[{i}];")
    for name, bits in netlist.outputs.items():
        lines += [f"  assign {name}[{i}] = {_net(bit)};" for i, bit in enumerate(bits)]
    for place, cell in enumerate(netlist.cells):
        made = library.cells[cell.type]
        names = {pin: _net(bits[0]) for pin, bits in cell.inputs.items()}
        if made.storage:
            store = made.storage
            state = f"s{place}"
            names |= {store.state: state, store.inverse: f"~{state}"}
            lines.append(f"  reg {state} = 0;")
            data, clock = verilog(store.data, names), verilog(store.clock, names)
            if store.kind == "ff":
                forced = [
                    (verilog(text, names), value)
                    for text, value in ((store.clear, 0), (store.preset, 1))
                    if text
                ]
                edges = " or ".join([f"posedge {clock}", *(f"posedge {c}" for c, _ in forced)])
                body = "".join(f"if ({c}) {state} <= {v}; else " for c, v in forced)
                clocked = f"wire c{place} = {clock};"
                edges = edges.replace(f"posedge {clock}", f"posedge c{place}", 1)
                lines.append(f"  {clocked}")
                lines.append(f"  always @({edges}) {body}{state} <= {data};")
            else:
                lines.append(f"  always @* if ({clock}) {state} = {data};")
        for pin, [bit] in cell.outputs.items():
            rise, fall = timed.delays[bit]
            value = verilog(made.pins[pin].function, names)
            delay = f"#({rise:.3f}, {fall:.3f}) " if rise or fall else ""
            lines.append(f"  assign {delay}{_net(bit)} = {value};")
    return "\n".join([*lines, "endmodule"]) + "\n"


def _bench(netlist: Netlist, inputs: list[str], stimulus: Stimulus, period: int) -> str:
    widths = {name: len(bits) for name, bits in (netlist.inputs | netlist.outputs).items()}
    total = sum(widths[name] for name in inputs)
    given = f"{{{', '.join(inputs)}}}"
    outs = f"{{{', '.join(netlist.outputs)}}}"
    regs = "\n".join(f"  reg [{widths[n] - 1}:0] {n} = 0;" for n in inputs)
    wires = "\n".join(f"  wire [{widths[n] - 1}:0] {n};" for n in netlist.outputs)
    ports = ", ".join(f".{n}({n})" for n in [*netlist.inputs, *netlist.outputs])
    return f"""`timescale 1ps/1ps
module bench;
  reg [{total - 1}:0] rows [0:{len(stimulus.cycles) - 1}];
  reg clk = 0;
{regs}
{wires}
  integer step, file;
  gates gates ({ports});
  initial begin
    $readmemb("stimulus.txt", rows);
    file = $fopen("outputs.txt", "w");
    $dumpfile("changes.vcd");
    for (step = 0; step < {len(stimulus.cycles)}; step = step + 1) begin
      if (step == {stimulus.begin}) begin
        $dumpvars(1, gates);
      end
      clk = 1;
      {given} <= rows[step];
      #{period // 2} clk = 0;
      #{period // 2 - 1} $fdisplay(file, "%b", {outs});
      #1;
    end
    $fclose(file);
    $finish;
  end
endmodule
"""


def _rows(netlist: Netlist, inputs: list[str], stimulus: Stimulus) -> str:
    state = dict.fromkeys(inputs, 0)
    rows = []
    for cycle in stimulus.cycles:
        state |= cycle
        words = []
        for name in inputs:
            width = len(netlist.inputs[name])
            words.append(format(state[name] & ((1 << width) - 1), f"0{width}b"))
        rows.append("".join(words))
    return "\n".join(rows) + "\n"


def _outputs(netlist: Netlist, text: str) -> list[dict[str, int | None]]:
    found = []
    for line in text.split():
        row, at = {}, 0
        for name, bits in netlist.outputs.items():
            word = line[at : at + len(bits)]
            at += len(bits)
            row[name] = int(word, 2) if set(word) <= {"0", "1"} else None
        found.append(row)
    return found


def pin_of(library: Library, cell: Cell, name: str) -> Pin:
    """Return a pin of the library cell that a cell is."""
    return library.cells[cell.type].pins[name]
