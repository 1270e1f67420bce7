"""Bench of the network engine: random networks, every map and every clock against the models.

With a streamed program each runs twice: once with every word in time, once with words that come
late.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, First, Timer

from mulfree.engine.layers import TAPS, EngineShape
from mulfree.engine.network import Network, NetworkSpec
from mulfree.engine.program import Program
from mulfree_sim import random_networks
from mulfree_sim.benches import ports
from mulfree_sim.benches.reader import HALTING, STEADY, Pace, Reader
from mulfree_sim.golden.network import Array, Engine

#: Networks tried.
NETWORKS = 8


async def start(dut: Any, spec: NetworkSpec) -> None:
    """Start the clock with every input idle."""
    names = ("program_write", "program_address", "program_data")
    if spec.streamed:
        names = ("program__valid", "program__payload")
    names += ("map_write", "map_bank", "map_address", "map_data", "start")
    await ports.start(dut, **dict.fromkeys(names, 0))


async def load(dut: Any, words: list[int]) -> None:
    """Write the program memory."""
    dut.program_write.value = 1
    for address, word in enumerate(words):
        dut.program_address.value = address
        dut.program_data.value = word
        await FallingEdge(dut.clk)
    dut.program_write.value = 0


async def write_maps(dut: Any, spec: NetworkSpec, maps: Array) -> None:
    """Write the map memory, shape (9, words, slice)."""
    dut.map_write.value = 1
    for bank, address in np.ndindex(maps.shape[:2]):
        dut.map_bank.value = bank
        dut.map_address.value = address
        dut.map_data.value = ports.pack(maps[bank, address].tolist(), spec.core.act_bits)
        await FallingEdge(dut.clk)
    dut.map_write.value = 0


async def read_maps(dut: Any, spec: NetworkSpec, words: int) -> Array:
    """Read the map memory, shape (9, words, slice)."""
    found = []
    places = list(np.ndindex(TAPS, words))
    for count in range(len(places) + Network.READ_LATENCY):
        if count >= Network.READ_LATENCY:
            found.append(str(dut.map_word.value))
        if count < len(places):
            bank, address = places[count]
            dut.map_bank.value = bank
            dut.map_address.value = address
        await FallingEdge(dut.clk)
    bits, many, signed = spec.core.act_bits, spec.slice, spec.core.act_signed
    unknown = [0] * many  # a word that was never written
    values = [
        ports.unpack(int(w, 2), bits, many, signed) if set(w) <= {"0", "1"} else unknown
        for w in found
    ]
    return np.array(values, np.int64).reshape(TAPS, words, many)


async def run(dut: Any, limit: int) -> int:
    """Run the network; return the clocks that the engine counted."""
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    assert int(dut.busy.value)
    finished = FallingEdge(dut.busy)
    if await First(finished, Timer(10 * limit, "ns")) is not finished:
        raise AssertionError(f"the engine is still busy after {limit} clocks")
    await FallingEdge(dut.clk)
    assert not int(dut.fault.value)
    return int(dut.cycles.value)


async def run_loaded(dut: Any, spec: NetworkSpec, program: Program) -> None:
    """Run the network from its memory, and compare the clocks that it took."""
    await load(dut, spec.program_image(program))
    expected = program.cycles(spec)
    took = await run(dut, 2 * expected + 1000)
    assert took == expected, (took, expected)


async def run_streamed(dut: Any, spec: NetworkSpec, program: Program, pace: Pace) -> None:
    """Run the network from outside, and compare the clocks and the words that it took."""
    reader = Reader(dut, spec.program_image(program), pace)
    serving = cocotb.start_soon(reader.serve())
    expected = program.cycles(spec)
    took = await run(dut, 100 * expected)
    serving.cancel()
    dut._log.info(f"{took} clocks for {expected}, {reader.refused} with a word late, {pace}")
    assert reader.reads == sum(spec.layer_reads(program)), reader.reads
    assert reader.refused == 0 or pace != STEADY
    assert expected <= took <= expected + reader.refused, (took, expected, reader.refused)


async def check(dut: Any, spec: NetworkSpec, program: Program, codes: Array) -> None:
    """Run one input and compare all that layers write, and the clocks."""
    engine = Engine(program, codes[None])
    maps = engine.maps[0].copy()
    for layer in program.layers:
        engine.run(layer)
    m = program.output
    bank, word = engine._where(m)
    right = engine.read(m)[0][..., : m.channels]
    names = [layer.name for layer in program.layers]
    given = ports.settings().get("pace")
    late = random.choice(HALTING) if given is None else Pace(**given)
    for pace in (STEADY, late) if spec.streamed else (None,):
        await write_maps(dut, spec, maps)
        if pace is None:
            await run_loaded(dut, spec, program)
        else:
            await run_streamed(dut, spec, program, pace)
        got = await read_maps(dut, spec, program.map_words)
        flat = got[bank, word].reshape(m.height, m.width, -1)[..., : m.channels]
        assert (flat == right).all(), (names, pace, np.argwhere(flat != right)[:9], flat, right)


@cocotb.test()
async def equals_golden(dut: Any) -> None:
    """Random networks give the golden engine's outputs in the clocks that are foretold."""
    spec: NetworkSpec = ports.spec()
    shape = EngineShape.of(spec)
    rng = np.random.default_rng(random.getrandbits(32))
    await start(dut, spec)
    for kind in ports.settings().get("kinds", random_networks.runnable(shape)):
        program = random_networks.KINDS[kind](shape, rng)
        codes = rng.integers(shape.act.low, shape.act.high + 1, program.input_shape)
        dut._log.info(f"{kind}: {program.layers[0].name}")
        await check(dut, spec, program, codes)


@cocotb.test(skip="MULFREE_PROGRAM" not in os.environ)
async def runs_program(dut: Any) -> None:
    """The program of a file, with the inputs beside it, gives the golden outputs."""
    spec: NetworkSpec = ports.spec()
    program = Program.from_bytes(Path(os.environ["MULFREE_PROGRAM"]).read_bytes())
    inputs = np.array(json.loads(os.environ["MULFREE_INPUTS"]), np.int64)
    await start(dut, spec)
    for codes in inputs:
        await check(dut, spec, program, codes)
