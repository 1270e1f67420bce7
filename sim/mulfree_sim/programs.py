"""Random programs, for trying a system out."""

from itertools import pairwise

import numpy as np

from mulfree.soc.program import Coding, Dense, Program
from mulfree.soc.registers import register_map
from mulfree.soc.top import SocSpec


def random_program(
    spec: SocSpec, rng: np.random.Generator, widths: list[int], batch: int
) -> Program:
    """Return layers of the given widths, with factors that spread the outputs over their range."""
    act, weight = spec.core.act_format, spec.core.weight_range
    layers = []
    for inputs, outputs in pairwise(widths):
        codes = rng.integers(weight[0], weight[1] + 1, (outputs, inputs))
        values = spec.target.weight.values()
        low, high = np.sort(rng.choice([act.low, 0, act.high], 2, replace=False))
        layers.append(
            Dense(
                weights=rng.choice(values, codes.shape),
                bias=rng.integers(-1000, 1000, outputs),
                multiplier=rng.integers(1 << 30, 1 << 31, outputs),
                shift=-rng.integers(6, 9, outputs),
                zero_point=int(rng.integers(low, high + 1)),
                low=int(low),
                high=int(high),
            )
        )
    m = register_map()
    limits = m.limits.pack(slots=batch, channels=max(widths[1:]), left_shift=0)
    engine = spec.target.engine & ~m.engine.fields["kind"].mask
    target = type(spec.target)(engine, spec.target.shape, limits)
    return Program(target, layers, Coding(0, 1.0), Coding(0, 1.0))


def random_inputs(program: Program, rng: np.random.Generator, images: int) -> np.ndarray:
    """Return coded inputs, shape (images, inputs)."""
    act = program.target.act
    return rng.integers(act.low, act.high + 1, (images, program.widths[0]))
