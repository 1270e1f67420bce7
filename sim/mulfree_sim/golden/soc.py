"""Golden model of the system: what a program makes of its inputs."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mulfree.formats import Int
from mulfree.soc.program import Program
from mulfree.soc.top import SocSpec
from mulfree_sim import golden
from mulfree_sim.golden.requantizer import ChannelParameters, requantize


def results(spec: SocSpec, program: Program, act: ArrayLike) -> NDArray[np.int64]:
    """Return the outputs of a program, shape (images, inputs) to (images, outputs).

    Raises
    ------
    ProgramError
        The program does not run on this system.
    """
    program.check_runs_on(spec.target, spec.program_words, spec.data_words)
    matvec = golden.model(spec.core).matvec
    values = np.asarray(act, np.int64)
    for layer in program.layers:
        sums = Int(spec.acc_bits).decode(matvec(spec.core, layer.weights, values).astype(np.uint64))
        values = requantize(
            spec.dense.requantizer,
            sums,
            ChannelParameters(layer.bias, layer.multiplier, layer.shift),
            layer.zero_point,
            layer.low,
            layer.high,
        )
    return values
