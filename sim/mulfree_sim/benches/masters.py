"""Masters of a system's bus, one a bridge: words read and written."""

import random

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, ReadOnly

from mulfree.soc.registers import register_map
from mulfree.soc.system import SystemSpec
from mulfree_sim.benches import ports

MAP = register_map()
ALL_ONES = 0xFFFFFFFF


class Wishbone:
    """A classic master: one access at a time, idle for a while in between."""

    idle = {
        "bus__cyc": 0,
        "bus__stb": 0,
        "bus__we": 0,
        "bus__adr": 0,
        "bus__dat_w": 0,
        "bus__sel": 0,
    }

    def __init__(self, dut) -> None:
        self.dut = dut

    async def access(self, address: int, data: int | None, sel: int = 15) -> int | None:
        """Return the word read, 0 for a write, None for an error."""
        dut = self.dut
        while random.random() < 0.2:
            await FallingEdge(dut.clk)
        dut.bus__cyc.value = dut.bus__stb.value = 1
        dut.bus__we.value = int(data is not None)
        dut.bus__adr.value = address // 4
        dut.bus__dat_w.value = data or 0
        dut.bus__sel.value = sel
        while True:
            await ReadOnly()
            ack, err = int(dut.bus__ack.value), int(dut.bus__err.value)
            word = int(dut.bus__dat_r.value)
            assert not (ack and err)
            await FallingEdge(dut.clk)
            if ack or err:
                break
        dut.bus__cyc.value = dut.bus__stb.value = 0
        return None if err else word if data is None else 0

    async def read(self, address: int, count: int = 1) -> list[int | None]:
        """Read words."""
        return [await self.access(address + 4 * i, None) for i in range(count)]

    async def write(self, address: int, words: list[int]) -> None:
        """Write words."""
        for i, word in enumerate(words):
            await self.access(address + 4 * i, word)


class Uart:
    """A host: bits on a wire."""

    idle = {"uart_rx": 1}

    def __init__(self, dut) -> None:
        self.dut = dut
        self.bit = ports.spec().bit_clocks
        self.received: list[int] = []
        cocotb.start_soon(self._listen())

    async def send(self, content: bytes) -> None:
        """Send bytes."""
        for byte in content:
            for bit in (0, *((byte >> i) & 1 for i in range(8)), 1):
                self.dut.uart_rx.value = bit
                await ClockCycles(self.dut.clk, self.bit)

    async def _listen(self) -> None:
        while True:
            await FallingEdge(self.dut.uart_tx)
            await ClockCycles(self.dut.clk, self.bit // 2)
            byte = 0
            for i in range(8):
                await ClockCycles(self.dut.clk, self.bit)
                await ReadOnly()
                byte |= int(self.dut.uart_tx.value) << i
            await ClockCycles(self.dut.clk, self.bit)
            await ReadOnly()
            assert int(self.dut.uart_tx.value), "no stop bit"
            self.received.append(byte)

    async def read(self, address: int, count: int = 1) -> list[int | None]:
        """Read words; what the line answers for an error counts as one."""
        await self.send(bytes([2, count & 255]) + (address // 4).to_bytes(4, "big"))
        for _ in range(100 * self.bit * count + 1000):
            if len(self.received) >= 4 * count:
                break
            await ClockCycles(self.dut.clk, 1)
        content = bytes(self.received)
        self.received.clear()
        assert len(content) == 4 * count, f"{len(content)} bytes, not {4 * count}"
        words = [int.from_bytes(content[i : i + 4], "big") for i in range(0, len(content), 4)]
        return [None if word == ALL_ONES else word for word in words]

    async def write(self, address: int, words: list[int]) -> None:
        """Write words, up to 256 a command."""
        for start in range(0, len(words), 256):
            burst = words[start : start + 256]
            head = bytes([1, len(burst) & 255]) + (address // 4 + start).to_bytes(4, "big")
            await self.send(head + b"".join(w.to_bytes(4, "big") for w in burst))


class AxiLite:
    """cocotbext-axi's master, with pauses on every channel."""

    idle = {"s_axis_tvalid": 0, "m_axis_tready": 0}

    def __init__(self, dut) -> None:
        from cocotbext.axi import AxiLiteBus, AxiLiteMaster  # a foreign master

        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        for side in (self.master.write_if, self.master.read_if):
            for name in ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel"):
                channel = getattr(side, name, None)
                if channel is not None:
                    channel.set_pause_generator(random.random() < 0.3 for _ in iter(int, 1))

    async def read(self, address: int, count: int = 1) -> list[int | None]:
        """Read words; an error of any makes all of them errors."""
        found = await self.master.read(address, 4 * count)
        words = np.frombuffer(bytes(found.data), "<u4").tolist()
        return [None if found.resp else int(word) for word in words]

    async def write(self, address: int, words: list[int]) -> None:
        """Write words."""
        await self.master.write(address, np.array(words, "<u4").tobytes())


BRIDGES = {"uart": Uart, "wishbone": Wishbone, "axilite": AxiLite}


async def start(dut):
    """Start the clock; return (spec, bus, random numbers)."""
    spec: SystemSpec = ports.spec()
    kind = BRIDGES[spec.bridge]
    # Streams of data beside AXI4-Lite are not every system's.
    names = {name: value for name, value in kind.idle.items() if hasattr(dut, name)}
    if spec.bridge == "axilite":
        bus = kind(dut)
        await ports.start(dut, **names)
        await ClockCycles(dut.clk, 2)
    else:
        await ports.start(dut, **names)
        bus = kind(dut)
    return spec, bus, np.random.default_rng(random.getrandbits(32))


async def finish(dut, bus) -> dict[str, int]:
    """Wait for the end of a run; return the registers from status on."""
    first, last = MAP.status.offset, MAP.output_crc.offset
    for _ in range(10_000):
        (status,) = await bus.read(first)
        if MAP.status.fields["done"].of(status):
            break
        await ClockCycles(dut.clk, 50)
    else:
        raise AssertionError("the run does not end")
    words = await bus.read(first, (last - first) // 4 + 1)
    return {
        r.name: words[(r.offset - first) // 4]
        for r in MAP.registers.values()
        if first <= r.offset <= last
    }
