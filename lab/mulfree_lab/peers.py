"""Verilog of peers, to be measured in the same run as ours.

da4ml (LGPL, an extra) makes adder graphs for constant matrices. It is run as it comes; nothing of
it is part of this package.
"""

import contextlib
import importlib.util
import io
import re
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike


def available() -> bool:
    """Whether da4ml is installed."""
    return importlib.util.find_spec("da4ml") is not None


def da4ml_verilog(matrix: ArrayLike, act_bits: int, pipelined: bool = False) -> str:
    """Return da4ml's Verilog of ``y = matrix · x`` with a top module called ``peer``.

    Parameters
    ----------
    matrix
        Integers, shape (outputs, inputs).
    act_bits
        Width of each input, two's complement; results are exact.
    pipelined
        Registers after each level of adders (its `latency_cutoff` of 1) instead of none.
    """
    from da4ml.codegen import RTLModel
    from da4ml.trace import FixedVariableArray, HWConfig, comb_trace

    weights = np.asarray(matrix)
    high = float(1 << (act_bits - 1))
    ends = np.full(weights.shape[1], high)
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        act = FixedVariableArray.from_lhs(-ends, ends - 1, np.ones_like(ends), HWConfig(1, -1, -1))
        graph = comb_trace(act, act @ weights.T.astype(np.float32))
        model = RTLModel(graph, "peer", folder, latency_cutoff=1 if pipelined else -1)
        model.write()
        files = sorted(Path(folder).glob("src/**/*.v"))
        texts = {path.stem: path.read_text() for path in files}
    return "\n".join(texts[name] for name in _needed(texts, "peer"))


def _needed(texts: dict[str, str], top: str) -> list[str]:
    """Return the modules below `top`, each a text of its own: the library has more than is used."""
    found = [top]
    for name in found:
        found += [
            other
            for other in texts
            if other not in found and re.search(rf"\b{other}\b", texts[name])
        ]
    return found
