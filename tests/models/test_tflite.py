import warnings

import numpy as np
import pytest

from mulfree_models import reference
from mulfree_models.importers import tflite
from tests.models.layers import CASES, WIDE_CASES, chain, inputs

SEED = 5


def peer(content: bytes, codes: np.ndarray) -> np.ndarray:
    """TFLite's own reference kernels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        run = Interpreter(
            model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        )
    run.allocate_tensors()
    source, target = run.get_input_details()[0], run.get_output_details()[0]
    found = []
    for row in codes:
        run.set_tensor(source["index"], row[None].astype(source["dtype"]))
        run.invoke()
        found.append(run.get_tensor(target["index"])[0])
    return np.array(found, np.int64)


def check(content: bytes, rng: np.random.Generator, images: int = 6) -> None:
    graph = tflite.read(content, "model")
    codes = inputs(rng, graph.tensors[graph.input], images)
    found = reference.run(graph, codes)
    assert len(np.unique(found)) > 3, "a layer whose outputs are all the same tests nothing"
    assert (found == peer(content, codes)).all()


@pytest.mark.parametrize("case", CASES)
def test_reference_is_tflites(case):
    rng = np.random.default_rng(SEED)
    check(CASES[case](rng).to_bytes(), rng)


@pytest.mark.parametrize("case", WIDE_CASES)
def test_reference_with_16_bit_activations_is_tflites(case):
    rng = np.random.default_rng(SEED)
    check(chain(rng, *WIDE_CASES[case], dtype="int16").to_bytes(), rng)
