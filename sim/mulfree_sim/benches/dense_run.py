"""Runs one given layer through the hardware at full speed: the far end of `mulfree_sim.dense`."""

import json
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from mulfree.engine.dense import DenseSpec
from mulfree_sim.benches import dense, ports
from mulfree_sim.dense import read_layer

#: Clocks between two progress reports, and without any output until the run is given up.
REPORT, PATIENCE = 512, 1_000_000


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
    clocks = quiet = 0
    # One coroutine watches every stream: twice as fast as one each.
    while len(got) < count:
        await ReadOnly()
        taken = [pair for pair in sources if int(pair[0].ready.value)]
        if int(out.valid.value):
            got.append(int(out.payload.value))
            quiet = 0
        await FallingEdge(dut.clk)
        clocks, quiet = clocks + 1, quiet + 1
        for source, words in taken:
            word = next(words, None)
            if word is None:
                source.valid.value = 0
                sources.remove((source, words))
            else:
                source.payload.value = word
        if clocks % REPORT == 0:
            Path(places["progress"]).write_text(str(len(got) / count))
        assert quiet < PATIENCE, f"{count - len(got)} outputs are missing"
    np.save(places["outputs"], dense.decode(spec, got))
    Path(places["facts"]).write_text(json.dumps({"clocks": clocks}))
