"""Bench of many small cores side by side; see `mulfree_sim.bank`."""

import json
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge
from numpy.typing import NDArray

from mulfree.spec import Spec
from mulfree_sim import golden
from mulfree_sim.benches import ports


async def sweep(dut: Any, weight: int, count: int, drain: int) -> list[str]:
    """Load a weight, give the activations 0…count-1, and return the bits of the results by clock."""
    dut.weight.value = weight
    dut.load.value = 1
    await FallingEdge(dut.clk)
    dut.load.value = 0
    while not int(dut.loaded.value):
        await FallingEdge(dut.clk)
    rows = []
    for step in range(count + drain):
        dut.act.value = step % count
        await FallingEdge(dut.clk)
        rows.append(str(dut.results.value))
    dut.retire.value = 1
    await FallingEdge(dut.clk)
    dut.retire.value = 0
    return rows


def bit_matrix(rows: list[str]) -> NDArray[np.uint8]:
    """Return one row a clock, the lowest bit first."""
    text = np.frombuffer("".join(rows).encode(), dtype=np.uint8).reshape(len(rows), -1)
    wrong = (text != ord("0")) & (text != ord("1"))
    assert not wrong.any(), "results must be known, not X"
    return text[:, ::-1] - ord("0")


@cocotb.test()
async def every_product_equals_golden(dut) -> None:
    """Every weight × every activation of every core."""
    listed = json.loads(Path(ports.settings()["specs"]).read_text())
    specs: list[Any] = [Spec.from_dict(values) for values in listed]
    models = [golden.model(spec) for spec in specs]
    ends = np.cumsum([spec.dot_bits for spec in specs])
    acts = np.arange(1 << max(spec.act_bits for spec in specs))
    codes = 1 << max(spec.weight_shape.width if spec.loadable else 0 for spec in specs)
    # An activation given at a falling edge shows at the next one, unless registers hold it longer.
    delays = [max(spec.latency, 1) - 1 for spec in specs]
    await ports.start(dut, act=0, weight=0, load=0, retire=0)
    checked = 0
    for code in range(codes):
        bits = bit_matrix(await sweep(dut, code, len(acts), max(delays)))
        for spec, model, end, late in zip(specs, models, ends, delays, strict=True):
            if code >> (spec.weight_shape.width if spec.loadable else 0):
                continue  # this core has seen all its weights
            count = 1 << spec.act_bits
            width = spec.dot_bits
            places = np.int64(1) << np.arange(width)
            places[-1] = -places[-1]
            got = bits[late : late + count, end - width : end] @ places
            weight = spec.weight_format.decode(code) if spec.loadable else spec.matrix[0][0]
            act = spec.act_format.decode(acts[:count])
            expected = model.matvec(spec, [[int(weight)]], act[:, None])[:, 0]
            wrong = np.flatnonzero(got != expected)
            assert not wrong.size, (
                f"{spec.to_json()}: {int(weight)} × {act[wrong[0]]} must be "
                f"{expected[wrong[0]]}, not {got[wrong[0]]}; {wrong.size} of {count} differ"
            )
            checked += count
    dut._log.info(f"{len(specs)} cores, {checked} products compared")
