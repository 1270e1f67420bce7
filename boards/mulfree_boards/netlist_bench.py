"""Bench of a synthesised board: over its pins it reads what it is, and runs a program."""

import random
from types import SimpleNamespace

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from mulfree.soc.registers import register_map
from mulfree.soc.top import SocSpec
from mulfree_sim.benches import ports
from mulfree_sim.benches.soc import Uart, compare, load_and_start
from mulfree_sim.programs import random_inputs, random_program


@cocotb.test()
async def identifies_and_computes(dut) -> None:
    """Identification and capabilities are the system's; a dense layer's outputs the golden ones."""
    spec: SocSpec = ports.spec()
    pins = ports.settings()
    dut = SimpleNamespace(**{name: getattr(dut, pin) for name, pin in pins["pins"].items()})
    for name, value in pins["idle"].items():
        getattr(dut, name).value = value
    dut.uart_rx.value = 1
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    # The reset holds for a while after configuration.
    await ClockCycles(dut.clk, pins["start_clocks"])
    bus, named = Uart(dut), register_map()
    words = await bus.read(0, named.data_size.offset // 4 + 1)
    assert words[0] == 0x4D554C46, f"{words[0]:#x} is not the identification"
    assert words[2:] == [
        spec.target.engine, spec.target.shape, spec.target.limits, spec.program_words,
        spec.data_words,
    ]  # fmt: skip
    # One layer that leaves a group and a tile unfilled.
    rng = np.random.default_rng(random.getrandbits(32))
    images = min(2, spec.acc_slots)
    widths = [spec.core.lanes + 1, spec.core.outputs + 1]
    program = random_program(spec, rng, widths, images)
    act = random_inputs(program, rng, images)
    await load_and_start(bus, program, program.to_words().tolist(), act)
    await compare(dut, bus, spec, program, act)
