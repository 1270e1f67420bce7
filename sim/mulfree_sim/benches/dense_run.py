"""Runs one given layer through the hardware at full speed: the far end of `mulfree_sim.dense`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, First, ReadOnly, RisingEdge, Timer
from cocotb.utils import get_sim_time

from mulfree.engine.dense import DenseSpec
from mulfree_sim.benches import dense, ports
from mulfree_sim.dense import read_layer

#: Outputs between two progress reports, and clocks without motion until the run is given up.
REPORT, PATIENCE = 64, 100_000
#: Length of a clock in `ports.start`, in ns.
PERIOD = 10


@cocotb.test()
async def run(dut) -> None:
    """Send everything, gather every output, and count the clocks from first beat to last output."""
    spec: DenseSpec = ports.spec()
    places = ports.settings()
    layer = read_layer(Path(places["layer"]))
    await dense.start(dut, spec)
    await dense.configure(dut, spec, layer.parameters, (layer.zero_point, layer.low, layer.high))

    sources = [(ports.Stream(dut, "act"), iter(dense.act_words(spec, layer.runs)))]
    if spec.core.loadable:
        words = iter(dense.weight_words(spec, layer.runs))
        sources.append((ports.Stream(dut, "weight"), words))
    for source, words in sources:
        source.payload.value, source.valid.value = next(words), 1
    out = ports.Stream(dut, "out")
    out.ready.value = 1
    count = sum(int(r.last.sum()) for r in layer.runs) * spec.pieces
    got: list[int] = []
    start = get_sim_time("ns")
    # One coroutine watches every stream and sleeps while nothing moves, for speed.
    while len(got) < count:
        await ReadOnly()
        taken = [pair for pair in sources if int(pair[0].ready.value)]
        if int(out.valid.value):
            got.append(int(out.payload.value))
            if len(got) % REPORT == 0:
                Path(places["progress"]).write_text(str(len(got) / count))
        elif not taken:
            await patiently([out.valid, *(source.ready for source, _ in sources)])
        await FallingEdge(dut.clk)
        for source, words in taken:
            word = next(words, None)
            if word is None:
                source.valid.value = 0
                sources.remove((source, words))
            else:
                source.payload.value = word
    clocks = round((get_sim_time("ns") - start) / PERIOD)
    np.save(places["outputs"], dense.decode(spec, got))
    Path(places["facts"]).write_text(json.dumps({"clocks": clocks}))


async def patiently(signals: Sequence[Any]) -> None:
    """Wait until one of the signals rises, within reason."""
    late = Timer(PATIENCE * PERIOD, unit="ns")
    if await First(late, *(RisingEdge(signal) for signal in signals)) is late:
        raise AssertionError(f"nothing has moved for {PATIENCE} clocks")
