"""Runs a fully connected layer through the generated Verilog of a `dense` unit."""

import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mulfree.emit import module_name, to_verilog
from mulfree.engine.dense import DenseSpec
from mulfree_sim import runner
from mulfree_sim.golden.array import Run
from mulfree_sim.golden.requantizer import ChannelParameters


@dataclass(frozen=True)
class Layer:
    """What a layer sends through the hardware, in the order that `engine.dense` asks for."""

    runs: Sequence[Run]
    parameters: ChannelParameters
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class LayerRun:
    """What came back.

    Members
    -------
    outputs : (results, spec.core.outputs), int64
    clocks
        From the first beat to the last output.
    """

    outputs: NDArray[np.int64]
    clocks: int


def run_layer(
    spec: DenseSpec,
    layer: Layer,
    *,
    verilog: str | None = None,
    simulator: str = "verilator",
    progress: Callable[[float], None] | None = None,
) -> LayerRun:
    """Simulate a layer.

    Parameters
    ----------
    verilog
        The unit's Verilog where it is at hand; generated otherwise.
    progress
        Called with the finished share, 0…1, from another thread.

    Raises
    ------
    SimulationError
        The simulation could not be built, or did not finish.
    """
    with tempfile.TemporaryDirectory(prefix="mulfree-") as scratch:
        places = {
            "layer": f"{scratch}/layer.npz",
            "outputs": f"{scratch}/outputs.npy",
            "facts": f"{scratch}/facts.json",
            "progress": f"{scratch}/progress",
        }
        write_layer(Path(places["layer"]), layer)
        with _Watch(Path(places["progress"]), progress):
            result = runner.run(
                verilog or to_verilog(spec),
                module_name(spec),
                "mulfree_sim.benches.dense_run",
                simulator=simulator,
                seed=0,  # nothing in this bench is random
                environment={
                    "MULFREE_SPEC": spec.to_json(),
                    "MULFREE_SETTINGS": json.dumps(places),
                },
            )
        if not result.passed:
            raise runner.SimulationError(f"the layer did not run:\n{result.log[-2000:]}")
        clocks = json.loads(Path(places["facts"]).read_text())["clocks"]
        return LayerRun(np.load(places["outputs"]), clocks)


def write_layer(path: Path, layer: Layer) -> None:
    """Write a layer as npz."""
    p = layer.parameters
    np.savez(
        path,
        weights=np.stack([run.weights for run in layer.runs]),
        beats=np.array([len(run.act) for run in layer.runs]),
        act=np.concatenate([run.act for run in layer.runs]),
        slot=np.concatenate([run.slot for run in layer.runs]),
        last=np.concatenate([run.last for run in layer.runs]),
        parameters=np.stack([p.bias, p.multiplier, p.shift]),
        clamp=np.array([layer.zero_point, layer.low, layer.high]),
    )


def read_layer(path: Path) -> Layer:
    """Read what `write_layer` wrote."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    cuts = np.cumsum(arrays["beats"])[:-1]
    parts = (np.split(arrays[name], cuts) for name in ("act", "slot", "last"))
    runs = [Run(*fields) for fields in zip(arrays["weights"], *parts, strict=True)]
    zero_point, low, high = arrays["clamp"].tolist()
    return Layer(runs, ChannelParameters(*arrays["parameters"]), zero_point, low, high)


class _Watch:
    """Reports what the bench writes into a file, for the length of a with block."""

    def __init__(self, path: Path, report: Callable[[float], None] | None) -> None:
        self._path, self._report = path, report
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self) -> None:
        assert self._report is not None
        while not self._done.wait(0.2):
            text = self._path.read_text() if self._path.exists() else ""
            if text:  # empty while it is being written
                self._report(float(text))

    def __enter__(self) -> None:
        if self._report:
            self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        if self._report:
            self._thread.join()
