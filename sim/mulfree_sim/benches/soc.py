"""Bench of the system: its bus, programs good and bad, and what an abort leaves behind."""

import random
import zlib

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from mulfree.soc.program import Program
from mulfree.soc.top import SocSpec
from mulfree_sim.benches import ports
from mulfree_sim.benches.masters import ALL_ONES, MAP, finish, start
from mulfree_sim.golden import soc as golden
from mulfree_sim.programs import random_inputs, random_program

ERRORS = MAP.error.fields["code"].encoding


async def load_and_start(bus, program: Program, words: list[int], act: np.ndarray) -> None:
    """Load a program and inputs, and start."""
    await bus.write(MAP.program.offset, words)
    await bus.write(MAP.data.offset + 4 * program.bases[0], program.pack(act).tolist())
    await bus.write(MAP.images.offset, [len(act)])
    await bus.write(MAP.control.offset, [1])


async def compare(dut, bus, spec: SocSpec, program: Program, act: np.ndarray) -> None:
    """Wait for a run and hold everything that it left against the golden model."""
    state = await finish(dut, bus)
    assert state["error"] == 0, state
    count = program.strides[-1] * len(act)
    result = np.array(await bus.read(MAP.data.offset + 4 * program.bases[-1], count), "<u4")
    outputs = program.unpack(result, len(act))
    expected = golden.results(spec, program, act)
    assert (outputs == expected).all(), f"{outputs.tolist()}, not {expected.tolist()}"
    assert state["program_crc"] == zlib.crc32(program.to_bytes()[:-4])
    assert state["input_crc"] == zlib.crc32(program.pack(act).tobytes())
    assert state["output_crc"] == zlib.crc32(result.tobytes())


def some_program(spec: SocSpec, rng: np.random.Generator) -> Program:
    """Return a program whose layers leave groups and tiles unfilled."""
    batch = min(3, spec.acc_slots)
    wide = min(spec.core.outputs + 2, spec.channels)
    return random_program(spec, rng, [spec.core.lanes + 3, wide, 2], batch)


@cocotb.test()
async def identifies(dut) -> None:
    """Registers and memories are there, and what is not there is an error that does not last."""
    spec, bus, rng = await start(dut)
    count = MAP.data_size.offset // 4 + 1
    words = await bus.read(0, count)
    assert words == [
        0x4D554C46, 0x20000, spec.target.engine, spec.target.shape, spec.target.limits,
        spec.program_words, spec.data_words,
    ]  # fmt: skip
    sizes = {MAP.program.offset: spec.program_words, MAP.data.offset: spec.data_words}
    for base, size in sizes.items():
        some = rng.integers(0, ALL_ONES, 5).tolist()
        await bus.write(base + 4 * (size - 5), some)
        await bus.write(MAP.scratch.offset, [0x600D])
        assert await bus.read(base + 4 * (size - 5), 5) == some
        assert await bus.read(MAP.status.offset) == [0]
        assert await bus.read(base + 4 * size) == [None]
        bus_error = MAP.status.fields["bus_error"].mask
        assert await bus.read(MAP.status.offset) == [bus_error]
        await bus.write(MAP.status.offset, [bus_error])
        assert await bus.read(MAP.status.offset) == [0]
    assert await bus.read(MAP.scratch.offset) == [0x600D]


@cocotb.test()
async def runs_programs(dut) -> None:
    """Outputs and CRCs equal the golden model's, from one image to a whole batch."""
    spec, bus, rng = await start(dut)
    await bus.write(MAP.interrupt_enable.offset, [1])
    for images in (1, min(3, spec.acc_slots)):
        program = some_program(spec, rng)
        act = random_inputs(program, rng, images)
        await load_and_start(bus, program, program.to_words().tolist(), act)
        await compare(dut, bus, spec, program, act)
        assert int(dut.interrupt.value) == 1
        await bus.write(MAP.interrupt_pending.offset, [1])
        assert await bus.read(MAP.interrupt_pending.offset) == [0]
        assert int(dut.interrupt.value) == 0


def damaged(program: Program, rng: np.random.Generator) -> list[tuple[str, list[int]]]:
    """Return (error, words) of programs that must be refused."""
    good = program.to_words()

    def signed(place: int, value: int) -> list[int]:
        words = good.copy()
        words[place] = value
        words[-1] = zlib.crc32(words[:-1].tobytes())
        return words.tolist()

    flipped = good.copy()
    flipped[rng.integers(16, len(good))] ^= np.uint32(1 << int(rng.integers(32)))
    limits = MAP.limits
    return [
        ("magic", signed(0, 0)),
        ("format", signed(1, 99)),
        ("length", signed(2, 1 << 30)),
        ("length", signed(2, 3)),
        ("crc", flipped.tolist()),
        ("engine", signed(3, int(good[3]) ^ 1 << 16)),
        ("engine", signed(4, int(good[4]) + 1)),
        ("limits", signed(5, limits.pack(slots=2047, channels=1))),
        ("limits", signed(6, 1 << 17)),
        ("layer", signed(16, 7 | 8 << 16)),
    ]


@cocotb.test()
async def refuses_what_is_not_right(dut) -> None:
    """Every error has its code, and the next program runs."""
    spec, bus, rng = await start(dut)
    program = some_program(spec, rng)
    act = random_inputs(program, rng, 1)
    # Over a UART the whole list takes long; a few stand for it.
    cases = damaged(program, rng)
    if spec.bridge == "uart":
        cases = [cases[i] for i in rng.permutation(len(cases))[:2]]
    for why, words in cases:
        await load_and_start(bus, program, words, act)
        state = await finish(dut, bus)
        assert state["error"] == ERRORS[why], f"{state}, not {why}"
        assert MAP.status.fields["error"].of(state["status"])
    for count in (0, program.batch + 1):
        await bus.write(MAP.program.offset, program.to_words().tolist())
        await bus.write(MAP.images.offset, [count])
        await bus.write(MAP.control.offset, [1])
        assert (await finish(dut, bus))["error"] == ERRORS["images"]
    await load_and_start(bus, program, program.to_words().tolist(), act)
    await compare(dut, bus, spec, program, act)


@cocotb.test()
async def abort_leaves_nothing_behind(dut) -> None:
    """A run that is stopped anywhere does not change the next one's results."""
    spec, bus, rng = await start(dut)
    program = some_program(spec, rng)
    words = program.to_words().tolist()
    for _ in range(1 if spec.bridge == "uart" else 6):
        act = random_inputs(program, rng, program.batch)
        await load_and_start(bus, program, words, act)
        await ClockCycles(dut.clk, int(rng.integers(1, 2500)))
        await bus.write(MAP.control.offset, [MAP.control.pack(abort=1)])
        assert not MAP.status.fields["busy"].of((await bus.read(MAP.status.offset))[0])
        act = random_inputs(program, rng, program.batch)
        await load_and_start(bus, program, words, act)
        await compare(dut, bus, spec, program, act)


@cocotb.test()
async def memories_are_closed_during_a_run(dut) -> None:
    """An access to a busy memory is an error and changes nothing."""
    spec, bus, rng = await start(dut)
    program = some_program(spec, rng)
    act = random_inputs(program, rng, program.batch)
    await load_and_start(bus, program, program.to_words().tolist(), act)
    if spec.bridge != "uart":  # a UART is slower than this run
        assert await bus.read(MAP.data.offset) == [None]
        await bus.write(MAP.program.offset + 64, [0])
    await compare(dut, bus, spec, program, act)


async def uart_forgets_what_is_cut(dut) -> None:
    """After a cut command: silence, or zero bytes, and the next one is understood."""
    spec, bus, rng = await start(dut)
    for _ in range(3):
        content = bytes([1, 3]) + (MAP.scratch.offset // 4).to_bytes(4, "big") + bytes(range(12))
        await bus.send(content[: int(rng.integers(1, len(content)))])
        await ClockCycles(dut.clk, (1 << spec.timeout_bits) + 10)
        assert await bus.read(0) == [0x4D554C46]
    await bus.send(rng.integers(5, 256, 20).astype(np.uint8).tobytes())  # none starts a command
    assert await bus.read(0) == [0x4D554C46]
    await bus.send(bytes([1, 2]) + (MAP.scratch.offset // 4).to_bytes(4, "big") + b"ab")
    await bus.send(bytes(6 + 5))
    assert await bus.read(0) == [0x4D554C46]
    await bus.send(bytes([2, 0]) + (MAP.program.offset // 4).to_bytes(4, "big"))
    while len(bus.received) < 1024:  # 0 stands for 256
        await ClockCycles(dut.clk, 100)
    bus.received.clear()
    await bus.write(MAP.scratch.offset, [0x12345678])
    await bus.send(bytes([4, 3]) + (MAP.scratch.offset // 4).to_bytes(4, "big"))
    while len(bus.received) < 12:
        await ClockCycles(dut.clk, 100)
    assert bytes(bus.received) == bytes.fromhex("12345678" * 3)


async def wishbone_writes_bytes(dut) -> None:
    """Byte enables of the memories."""
    _, bus, _ = await start(dut)
    await bus.write(MAP.data.offset, [0x11223344])
    await bus.access(MAP.data.offset, 0xAABBCCDD, sel=0b0110)
    assert await bus.read(MAP.data.offset) == [0x11BBCC44]


async def streams_carry_data(dut) -> None:
    """Inputs by AXI-Stream, outputs by AXI-Stream, with pauses on both."""
    from cocotbext.axi import AxiStreamBus, AxiStreamSink, AxiStreamSource

    spec, bus, rng = await start(dut)
    source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst)
    sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst)
    source.set_pause_generator(random.random() < 0.3 for _ in iter(int, 1))
    sink.set_pause_generator(random.random() < 0.3 for _ in iter(int, 1))
    program = some_program(spec, rng)
    await bus.write(MAP.program.offset, program.to_words().tolist())
    await bus.write(MAP.images.offset, [program.batch])
    for _ in range(2):
        act = random_inputs(program, rng, program.batch)
        await bus.write(MAP.control.offset, [MAP.control.pack(start=1, streams=1)])
        await source.send(program.pack(act).tobytes())
        frame = await sink.recv()
        result = np.frombuffer(bytes(frame.tdata), "<u4")
        assert len(result) == program.strides[-1] * len(act)
        assert (program.unpack(result, len(act)) == golden.results(spec, program, act)).all()
        await compare(dut, bus, spec, program, act)


#: Tests that only one bridge has.
OWN = {
    "uart": uart_forgets_what_is_cut,
    "wishbone": wishbone_writes_bytes,
    "axilite": streams_carry_data,
}
globals()["own"] = cocotb.test()(OWN[ports.spec().bridge])
