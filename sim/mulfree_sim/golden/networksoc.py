"""Golden model of the network engine behind a bus: what a program makes of its inputs there."""

from numpy.typing import ArrayLike

from mulfree.engine.layers import EngineShape
from mulfree.engine.program import Program
from mulfree.soc.networksoc import NetworkSocSpec
from mulfree_sim.golden import network


def results(spec: NetworkSocSpec, program: Program, codes: ArrayLike) -> network.Array:
    """Return the outputs of a program, shape (n, …) to (n, …).

    Raises
    ------
    ProgramError
        The program does not run on this system.
    """
    program.check_runs_on(EngineShape.of(spec))
    return network.results(program, codes)
