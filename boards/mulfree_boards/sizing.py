"""The network engine for a board: the one that runs a network in the fewest clocks and fits.

A compiled program says how many outputs, lanes and scalers its engine has; what is left is how fast
tiles are loaded, and how many pixels have accumulators. A model is compiled for every size, largest
arrays first. What fits is what the estimate says.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

from mulfree.catalog import spec_class
from mulfree.engine.layers import TAPS, EngineShape
from mulfree.engine.program import Program
from mulfree.formats import PowerOfTwo
from mulfree.soc.networksoc import NetworkSocSpec
from mulfree.spec import SpecError
from mulfree.units.core import CoreSpec
from mulfree_boards.board import Board
from mulfree_boards.estimate import Estimate, estimate, network_memories
from mulfree_boards.flow import BuildError
from mulfree_models.graph import Graph, ModelError
from mulfree_models.lowering import lower
from mulfree_models.recode import power_of_two

OUTPUTS = (32, 24, 16, 12, 8, 6, 4, 2, 1)
SLICES = (8, 4, 2, 1)
CHUNKS = (256, 128, 64, 32, 16, 8, 4)
#: Lanes of a beat of weights. Where more come than a table has, a tile lies in a chain of registers
#: with a choice behind it instead of in small memories, and takes wires that chips do not have: on
#: half of an LFE5U-85F there were 24,586 too few after six rounds with nine lanes, 2,582 with four.
FILLS = (1, 2, 4)
#: Part of a chip's LUTs and flip-flops that is filled unless more is asked for. Of an LFE5U-85F
#: 74 % were routed, 78 % were not, nor 82 % of an LFE5U-25F.
FILLED = 0.7
#: Arrays of less than this part of the largest that fits are looked at when no other will do.
PART = 0.2


@dataclass(frozen=True)
class Sized:
    """An engine for a network on a board, and the program laid out for it."""

    spec: NetworkSocSpec
    program: Program

    @property
    def cycles(self) -> int:
        """Clocks of an inference."""
        return self.program.cycles(self.spec)


def of_program(
    board: Board, program: Program, values: dict[str, Any], filled: float = FILLED
) -> Sized:
    """Return the fastest engine on a board that runs a program as it is laid out.

    Parameters
    ----------
    values
        Parameters of the engine and its core that are given.
    filled
        Part of the LUTs and flip-flops that may be taken.

    Raises
    ------
    BuildError
        None fits; the message names the layer, what it needs and what is there.
    SpecError
        The program is for another engine than the one given.
    """
    shape = program.shape
    powers = isinstance(shape.weight, PowerOfTwo)
    laid_out = {"outputs": shape.outputs, "lanes": shape.lanes} | (
        {"kind": "pot"} if powers else {}
    )
    for name, needed in laid_out.items():
        if values.get(name, needed) != needed:
            raise SpecError(
                f"{name} must be {needed}, as the program is laid out, not {values[name]}"
            )
    if values.get("kind") == "pot" and not powers:
        raise SpecError("kind must be one of integer weights, as the program is laid out, not pot")
    return _best(board, program.name, lambda _: program, [shape], values, filled)


def of_graph(board: Board, graph: Graph, values: dict[str, Any], filled: float = FILLED) -> Sized:
    """Return the fastest engine on a board for a model, and its program; raises the same."""
    kind = values.get("kind", "lutna")
    core = _core(kind, {"outputs": 1, "lanes": TAPS} | _only(kind, values))
    if isinstance(core.weight_format, PowerOfTwo):
        graph, _ = power_of_two(graph, core.weight_format)
    room = EngineShape(
        act=core.act_format, weight=core.weight_format, rounding=graph.rounding, left_shift=30,
        channels=4096, map_words=65536, keep_words=65536, program_words=0,
    )  # fmt: skip
    room = replace(room, acc_bits=_acc_bits(graph, room))
    shapes = [
        replace(room, outputs=outputs, slice_channels=channels, scalers=scalers)
        for outputs in OUTPUTS if values.get("outputs", outputs) == outputs
        for channels in SLICES if values.get("lanes", TAPS * channels) == TAPS * channels
        for scalers in _scalers(outputs, channels)
    ]  # fmt: skip
    if not shapes:
        raise SpecError("outputs must be a multiple of lanes / 9, and lanes 9, 18, 36 or 72")
    program_of = cache(lambda shape: lower(graph, shape))
    return _best(board, graph.name, program_of, shapes, values, filled)


def _acc_bits(graph: Graph, shape: EngineShape) -> int:
    """Return the width of accumulators that holds every sum of a graph."""
    for bits in (24, 28):
        try:
            lower(graph, replace(shape, acc_bits=bits))
        except ModelError:
            continue
        return bits
    return 32  # what else there is to say, lowering for a size says


def _best(
    board: Board, name: str, program_of: Any, shapes: list[EngineShape], values: dict[str, Any],
    filled: float,
) -> Sized:  # fmt: skip
    """Return what runs a network in the fewest clocks of all that fits."""
    device = board.device
    arrays, refusal = [], SpecError("")
    for shape in shapes:
        for core in _cores(shape, values):
            try:
                spec = _without_memories(shape, _core(*core))
            except SpecError as error:  # the sums of so many lanes, or what was asked for
                refusal = error
                continue
            arrays.append((estimate(spec, device.technology), spec.core, shape))
    if not arrays:
        raise refusal
    fitting = [a for a in arrays if _has_room(a[0], board, filled)]
    if not fitting:
        smallest = min((a[0] for a in arrays), key=lambda e: e.luts)
        raise BuildError(
            f"{name} cannot fit the {device.name} of {board.name}: the smallest engine would take "
            f"about {smallest.luts:,} LUTs for {device.luts:,} and {smallest.ff:,} flip-flops for "
            f"{device.ff:,}, of which {filled:.0%} may be used"
        )

    def products(array: tuple[Estimate, CoreSpec, EngineShape]) -> int:
        return array[1].outputs * array[1].lanes

    least = PART * max(products(a) for a in fitting)
    sized: list[Sized] = []
    refused: list[tuple[int, str]] = []
    for large in (True, False):
        if not sized:
            tried = [a for a in fitting if (products(a) >= least) == large]
            sized = _with_memories(board, tried, program_of, refused)
    if not sized:
        raise BuildError(f"{name} cannot fit the {device.name} of {board.name}: {min(refused)[1]}")

    def cost(one: Sized) -> tuple[int, int, int]:
        expected = estimate(one.spec, device.technology)
        return one.cycles, expected.luts, expected.ram

    return min(sized, key=cost)


def _with_memories(
    board: Board, arrays: list[tuple[Estimate, CoreSpec, EngineShape]], program_of: Any,
    refused: list[tuple[int, str]],
) -> list[Sized]:  # fmt: skip
    """Return every engine around arrays whose memories fit; say why the others do not.

    `refused` is given the block RAMs that each would take, and a clause.
    """
    device, sized = board.device, []
    for _, core, shape in arrays:
        program = program_of(shape)
        for chunk in CHUNKS:
            try:
                spec = NetworkSocSpec.around(program, core=core, chunk=chunk, **_uart(board))
            except SpecError as error:  # more than its windows hold
                refused.append((1 << 30, str(error)))
                continue
            memories = network_memories(spec, device.technology)
            blocks = sum(memories.values())
            if blocks > device.ram:
                need = f"it would take {_need(program, memories)}, and there are {device.ram}"
                refused.append((blocks, need))
            else:
                sized.append(Sized(spec, program))
    return sized


def _uart(board: Board) -> dict[str, Any]:
    return {"bridge": board.bridge, **board.uart(board.clock_hz)}


def _has_room(expected: Estimate, board: Board, filled: float) -> bool:
    device = board.device
    return expected.luts <= filled * device.luts and expected.ff <= filled * device.ff


def _cores(shape: EngineShape, values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and parameters of cores of a shape: tiles loaded more and more at a time."""
    parts = {
        "outputs": shape.outputs,
        "lanes": shape.lanes,
        "act_bits": shape.act.bits,
        "act_signed": shape.act.signed,
        "weight_bits": shape.weight.bits,
    }
    kind = values.get("kind", "lutna")
    if isinstance(shape.weight, PowerOfTwo):
        kind, parts = "pot", parts | {"terms": shape.weight.terms}
    wanted = _only(kind, values)
    fills = [fill for fill in FILLS if shape.lanes % fill == 0]
    for fill in (wanted["fill_lanes"],) if "fill_lanes" in wanted else fills:
        yield kind, parts | wanted | {"fill_lanes": fill}


def _without_memories(shape: EngineShape, core: CoreSpec) -> NetworkSocSpec:
    """Return an engine whose memories are of no matter."""
    return NetworkSocSpec(
        core=core, scalers=shape.scalers, acc_bits=shape.acc_bits, rounding=shape.rounding
    )


def _core(kind: str, values: dict[str, Any]) -> CoreSpec:
    core = spec_class(kind)(**values)
    assert isinstance(core, CoreSpec)
    return core


def own(kind: str) -> set[str]:
    """Return the names of a kind of core's parameters."""
    return {f.name for f in fields(spec_class(kind))}


def _only(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are parameters of a kind of core."""
    return {name: value for name, value in values.items() if name in own(kind)}


def _scalers(outputs: int, channels: int) -> Iterator[int]:
    """Yield how many scalers an engine can have."""
    for times in (1, 2, 4, TAPS):
        if outputs % (times * channels) == 0:
            yield times * channels


def _need(program: Program, memories: dict[str, int]) -> str:
    """Return what a network needs, and which layers most of it."""
    said = []
    if largest := max(program.convolutions, key=lambda c: c.weights.size, default=None):
        bits = largest.weights.size * program.shape.weight.code_bits
        said.append(
            f"{memories['weights']} for weights (layer {largest.name}: {bits // 8:,} bytes)"
        )
    written = [layer for layer in program.layers if layer.target is not None]
    top = max(written, key=lambda layer: layer.target.address + layer.target.words)
    said.append(
        f"{memories['feature maps']} for feature maps (layer {top.name}: {program.map_words:,} "
        "words of each bank)"
    )
    return f"{sum(memories.values()):,} block RAMs, {' and '.join(said)}"
