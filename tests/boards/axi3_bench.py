"""Bench of the bridge from AXI3: a foreign master's bursts against a foreign memory."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotbext.axi import (
    AxiBurstType,
    AxiBus,
    AxiLiteBus,
    AxiLiteRam,
    AxiMaster,
)

CHANNELS = ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel")


@cocotb.test()
async def bursts_arrive(dut) -> None:
    """Bursts of every kind, length and size that are written are read back, in order."""
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    master = AxiMaster(AxiBus.from_prefix(dut, "axi_"), dut.clk, dut.rst, max_burst_len=16)
    memory = AxiLiteRam(AxiLiteBus.from_prefix(dut, "lite_"), dut.clk, dut.rst, size=4096)
    for side in (master.write_if, master.read_if, memory.write_if, memory.read_if):
        for name in CHANNELS:
            if hasattr(side, name):
                pauses = (random.random() < 0.3 for _ in iter(int, 1))
                getattr(side, name).set_pause_generator(pauses)
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    expected = bytearray(4096)
    for _ in range(60):
        count, start = random.randint(1, 200), random.randrange(0, 3800)
        content = random.randbytes(count)
        size = random.choice([0, 1, 2])
        writing = cocotb.start_soon(master.write(start, content, size=size))
        elsewhere = random.randrange(0, 4000, 4)
        if not start - 64 < elsewhere < start + count:
            read = await master.read(elsewhere, 48)
            assert read.data == expected[elsewhere : elsewhere + 48]
        await writing
        expected[start : start + count] = content
        read = await master.read(start, count, size=random.choice([0, 1, 2]))
        assert (read.data, int(read.resp)) == (content, 0)
    assert memory.read(0, 4096) == expected
    # Four words that wrap at 16 bytes; four times the same word.
    memory.write(0x100, bytes(range(16)))
    read = await master.read(0x108, 16, burst=AxiBurstType.WRAP)
    assert read.data == bytes([*range(8, 16), *range(8)])
    read = await master.read(0x104, 16, burst=AxiBurstType.FIXED)
    assert read.data == bytes(range(4, 8)) * 4
