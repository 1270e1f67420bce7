import numpy as np
import pytest

from mulfree.engine.array import ArraySpec
from mulfree.units.baseline import BaselineSpec
from mulfree_models import tiling
from mulfree_sim.golden import array as golden


@pytest.mark.parametrize("images", [1, 3, 4, 9])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (4, 8), (10, 32), (5, 9)])
def test_tiles_compute_the_layer(images, outputs, inputs):
    rng = np.random.default_rng(images * outputs)
    spec = ArraySpec(core=BaselineSpec(outputs=4, lanes=8), acc_slots=4)
    codes = rng.integers(-128, 128, (outputs, inputs))
    act = rng.integers(-128, 128, (images, inputs))
    runs = list(tiling.fully_connected(spec, codes, act))
    sums = [row for _, row in golden.results(spec, runs)]
    assert (tiling.gathered(spec, sums, images, outputs) == act @ codes.T).all()
    entered = sum(run.weights.size + len(run.act) for run in runs)
    assert tiling.cycles(spec, outputs, inputs, images) == entered
