"""Ports as plain integers, whatever the simulator: pack, unpack, clock, streams."""

import json
import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.handle import SimHandleBase
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge

from mulfree.spec import Spec


def spec() -> Any:
    """Return the Spec that the runner hands to the bench."""
    return Spec.from_json(os.environ["MULFREE_SPEC"])


def settings() -> dict[str, Any]:
    """Return further settings that the runner hands to the bench as JSON."""
    return json.loads(os.environ.get("MULFREE_SETTINGS", "{}"))


def pack(values: Iterable[int], width: int) -> int:
    """Return the values as one integer, the first in the low bits."""
    mask = (1 << width) - 1
    word = 0
    for place, value in enumerate(values):
        word |= (int(value) & mask) << (place * width)
    return word


def unpack(word: int, width: int, count: int, signed: bool = True) -> list[int]:
    """Return `count` values of `width` bits, the first from the low bits."""
    mask, top = (1 << width) - 1, 1 << (width - 1)
    values = ((word >> (place * width)) & mask for place in range(count))
    return [(v ^ top) - top for v in values] if signed else list(values)


async def start(dut: Any, **idle: int) -> None:
    """Start a 10 ns clock, hold reset for two edges with the given inputs, release it.

    Inputs are driven at the falling edge throughout the benches, and outputs read there too: half a
    period from the edge that matters, which no simulator's scheduling can blur.
    """
    if "MULFREE_RECORD" in os.environ:
        for direction, name, _ in json.loads(os.environ["MULFREE_RECORD_PORTS"]):
            if direction == "input":  # what no bench drives would be recorded as unknown
                getattr(dut, name).value = 0
        cocotb.start_soon(record(dut))
    for name, value in idle.items():
        getattr(dut, name).value = value
    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    for _ in range(2):
        await FallingEdge(dut.clk)
    dut.rst.value = 0


async def record(dut: Any) -> None:
    """Write every port's value, cycle by cycle, to the file that ``MULFREE_RECORD`` names.

    Only the first test of a simulation is recorded: the next one starts its clock anew.

    A line is one cycle's ports as one binary number, the first of `testbench.port_list` in the low
    bits. An output may have unknown bits as long as it says nothing, a payload for one.
    """
    listed = json.loads(os.environ["MULFREE_RECORD_PORTS"])
    path, most = Path(os.environ["MULFREE_RECORD"]), int(os.environ["MULFREE_RECORD_CYCLES"])
    if path.exists():
        return
    with path.open("w") as file:
        for _ in range(most):
            await FallingEdge(dut.clk)
            await ReadOnly()
            values = [str(getattr(dut, name).value) for _, name, _ in reversed(listed)]
            file.write(f"{''.join(values).lower()}\n")


class Stream:
    """The three signals of a stream port, seen from the bench."""

    def __init__(self, dut: Any, name: str) -> None:
        self.clk: SimHandleBase = dut.clk
        self.payload: Any = getattr(dut, f"{name}__payload")
        self.valid: Any = getattr(dut, f"{name}__valid")
        self.ready: Any = getattr(dut, f"{name}__ready")

    async def put(self, words: Sequence[int], idle: float = 0.0) -> None:
        """Offer words in order; before each, stay idle for a while with probability `idle`."""
        for word in words:
            while random.random() < idle:
                await FallingEdge(self.clk)
            self.payload.value = word
            self.valid.value = 1
            while True:
                await ReadOnly()
                taken = int(self.ready.value)
                await FallingEdge(self.clk)
                if taken:
                    break
            self.valid.value = 0

    async def get(self, count: int, stall: float = 0.0) -> list[int]:
        """Take `count` words; before each, refuse for a while with probability `stall`."""
        words = []
        while len(words) < count:
            self.ready.value = int(random.random() >= stall)
            await ReadOnly()
            if int(self.ready.value) and int(self.valid.value):
                words.append(int(self.payload.value))
            await FallingEdge(self.clk)
        self.ready.value = 0
        return words


async def edges(dut: Any, count: int) -> None:
    """Pass rising edges and stop at the falling edge after them."""
    for _ in range(count):
        await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
