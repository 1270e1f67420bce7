"""Bench of the network engine behind a bus: windows, check sums, runs, aborts."""

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from mulfree.engine.layers import TAPS, EngineShape
from mulfree.engine.program import Program
from mulfree.soc import windows
from mulfree.soc.networksoc import NetworkSocSpec
from mulfree.soc.windows import BANK_WORDS, Words
from mulfree_sim import random_networks
from mulfree_sim.benches.masters import MAP, finish, start
from mulfree_sim.golden import networksoc as golden

#: Networks that are run: over a UART one stands for all.
TRIED = {"uart": ("several_groups",), "wishbone": ("residual", "pools")}


def place(window: str, run: Words) -> int:
    """Return the byte address of words."""
    return MAP.windows[window].offset + 4 * run.offset


async def load(bus: Any, spec: NetworkSocSpec, program: Program) -> int:
    """Load a program; return its CRC."""
    image = windows.program_words(spec, program)
    await bus.write(place("program", image), list(image.words))
    return windows.crc([image])


async def run(bus: Any, program: Program, codes: np.ndarray) -> int:
    """Write an input and start; return the input's CRC."""
    runs = windows.input_words(program, codes)
    for part in runs:
        await bus.write(place("data", part), list(part.words))
    await bus.write(MAP.control.offset, [MAP.control.pack(start=1)])
    return windows.crc(runs)


async def compare(
    dut: Any, bus: Any, spec: NetworkSocSpec, program: Program, codes: np.ndarray, crcs: list[int]
) -> None:
    """Wait for a run and hold everything that it left against the models."""
    state = await finish(dut, bus)
    assert state["error"] == 0, state
    assert state["cycles"] == program.cycles(spec)
    assert [state["program_crc"], state["input_crc"]] == crcs
    found = []
    for part in windows.output_places(program):
        words = await bus.read(place("data", part), len(part.words))
        found.append(Words(part.offset, tuple(words)))
    assert await bus.read(MAP.output_crc.offset) == [windows.crc(found)]
    right = golden.results(spec, program, codes[None])[0]
    assert (windows.output_codes(program, found) == right).all(), right
    steps, waits = await bus.read(MAP.steps.offset, 2)
    assert 0 < steps + waits < state["cycles"]


def random_program(spec: NetworkSocSpec, kind: str, rng: np.random.Generator) -> Program:
    """Return a random network of a kind."""
    return random_networks.KINDS[kind](EngineShape.of(spec), rng)


def random_codes(program: Program, rng: np.random.Generator) -> np.ndarray:
    """Return one random input."""
    act = program.shape.act
    return rng.integers(act.low, act.high + 1, program.input_shape)


@cocotb.test()
async def identifies(dut: Any) -> None:
    """It says what it is, and what is not there is an error that does not last."""
    spec, bus, rng = await start(dut)
    words = await bus.read(0, MAP.data_size.offset // 4 + 1)
    size = spec.map_words * spec.map_pieces
    target = spec.target
    assert words[2:] == [target.engine, target.shape, target.limits, spec.program_size, size]
    (count,) = await bus.read(MAP.about_size.offset)
    text = np.array(await bus.read(MAP.about.offset, -(-count // 4)), "<u4").tobytes()[:count]
    assert NetworkSocSpec.described(text) == spec.network

    data, program = MAP.data.offset, MAP.program.offset
    high = (1 << min(spec.word_layout.size, 32)) - 1
    for bank in (0, TAPS - 1):
        last = data + 4 * (bank * BANK_WORDS + size - 2)
        some = rng.integers(0, high, 2).tolist()
        await bus.write(last, some)
        await bus.write(MAP.scratch.offset, [0x600D])
        assert await bus.read(last, 2) == some
        assert await bus.read(last + 8) == [None]
    assert await bus.read(data + 4 * TAPS * BANK_WORDS) == [None]
    assert await bus.read(program) == [None]  # it cannot be read
    bus_error = MAP.status.fields["bus_error"].mask
    await bus.write(MAP.status.offset, [bus_error])
    await bus.write(program, [1, 2, 3])
    assert await bus.read(MAP.status.offset) == [0]
    await bus.write(program + 4 * 5, [1])  # out of order
    assert await bus.read(MAP.status.offset) == [bus_error]
    await bus.write(MAP.status.offset, [bus_error])
    assert await bus.read(MAP.program_crc.offset) == [windows.crc([Words(0, (1, 2, 3))])]
    assert await bus.read(MAP.scratch.offset) == [0x600D]


@cocotb.test()
async def runs_networks(dut: Any) -> None:
    """Outputs, clocks and CRCs are those of the models, from one input to the next."""
    spec, bus, rng = await start(dut)
    await bus.write(MAP.interrupt_enable.offset, [1])
    tried = TRIED.get(spec.bridge, TRIED["uart"])
    for kind in random_networks.runnable(EngineShape.of(spec), tried):
        program = random_program(spec, kind, rng)
        crc = await load(bus, spec, program)
        assert await bus.read(MAP.program_crc.offset) == [crc]
        for _ in range(2):
            codes = random_codes(program, rng)
            own = await run(bus, program, codes)
            await compare(dut, bus, spec, program, codes, [crc, own])
            assert int(dut.interrupt.value) == 1
            await bus.write(MAP.interrupt_pending.offset, [1])
            assert await bus.read(MAP.interrupt_pending.offset) == [0]
            assert int(dut.interrupt.value) == 0


@cocotb.test()
async def abort_leaves_nothing_behind(dut: Any) -> None:
    """A run that is stopped anywhere does not change the next one's results."""
    spec, bus, rng = await start(dut)
    kinds = random_networks.runnable(EngineShape.of(spec), ("several_groups", "residual", "pools"))
    # Over a UART a run takes long to write and read, and one stands for all.
    for kind in kinds[:1] if spec.bridge == "uart" else kinds:
        program = random_program(spec, kind, rng)
        crc = await load(bus, spec, program)
        await run(bus, program, random_codes(program, rng))
        await ClockCycles(dut.clk, int(rng.integers(1, program.cycles(spec))))
        await bus.write(MAP.control.offset, [MAP.control.pack(abort=1)])
        status = MAP.status.unpack((await bus.read(MAP.status.offset))[0])
        assert not status["busy"]
        assert not status["done"]
        codes = random_codes(program, rng)
        own = await run(bus, program, codes)
        await compare(dut, bus, spec, program, codes, [crc, own])


@cocotb.test()
async def memories_are_closed_during_a_run(dut: Any) -> None:
    """An access to a busy memory is an error and changes nothing."""
    spec, bus, rng = await start(dut)
    program = random_program(spec, "several_groups", rng)
    crc = await load(bus, spec, program)
    codes = random_codes(program, rng)
    own = await run(bus, program, codes)
    if spec.bridge != "uart":  # a UART is slower than this run
        assert await bus.read(MAP.data.offset) == [None]
        await bus.write(MAP.program.offset, [0])
    await compare(dut, bus, spec, program, codes, [crc, own])
