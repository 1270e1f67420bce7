from itertools import combinations

import numpy as np
import pytest

from mulfree.engine.layers import Conv, EngineShape
from mulfree.engine.program import Program, ProgramError
from mulfree.formats import Int, PowerOfTwo
from mulfree_models import memory_plan, reference
from mulfree_models.graph import ModelError
from mulfree_models.importers import tflite
from mulfree_models.lowering import lower
from mulfree_models.memory_plan import Buffer
from mulfree_models.recode import power_of_two
from mulfree_sim.golden import network as golden
from tests.models.layers import CASES, SAME, WIDE_CASES, chain, conv, inputs, nested, pool

SEED = 5
SHAPES = [
    EngineShape(channels=1024),
    EngineShape(outputs=8, slice_channels=2, scalers=2, channels=1024, chunk=16, left_shift=2),
    EngineShape(outputs=4, slice_channels=1, scalers=2, channels=1024, left_shift=2),
    EngineShape(outputs=16, slice_channels=8, scalers=16, channels=1024, left_shift=2),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.outputs}x{s.lanes}")
@pytest.mark.parametrize("case", CASES)
def test_engine_computes_the_reference(case, shape):
    rng = np.random.default_rng(SEED)
    graph = tflite.read(CASES[case](rng).to_bytes(), "model")
    codes = inputs(rng, graph.tensors[graph.input], 3)
    program = Program.from_bytes(lower(graph, shape).to_bytes())
    assert (golden.results(program, codes) == reference.run(graph, codes)).all()


@pytest.mark.parametrize("case", [c for c in WIDE_CASES if c != "conv 32-bit bias"])
def test_engine_of_16_bits_computes_the_reference(case):
    rng = np.random.default_rng(SEED)
    graph = tflite.read(chain(rng, *WIDE_CASES[case], dtype="int16").to_bytes(), "model")
    codes = inputs(rng, graph.tensors[graph.input], 3)
    program = lower(graph, EngineShape(act=Int(16), acc_bits=32, rounding="single"))
    assert (golden.results(program, codes) == reference.run(graph, codes)).all()


def compiled(net, **shape):
    return lower(tflite.read(net.to_bytes(), "model"), EngineShape(**shape))


@pytest.mark.parametrize("coding", [PowerOfTwo(4), PowerOfTwo(3, 2), PowerOfTwo(4, 2)])
def test_powers_of_two_survive_the_file(coding):
    rng = np.random.default_rng(SEED)
    graph = tflite.read(CASES["residual"](rng).to_bytes(), "model")
    own, _ = power_of_two(graph, coding)
    program = lower(own, EngineShape(weight=coding, left_shift=8))
    again = Program.from_bytes(program.to_bytes())
    codes = inputs(rng, graph.tensors[graph.input], 3)
    assert (golden.results(again, codes) == reference.run(own, codes)).all()


def test_memory_holds_an_input_and_gives_an_output():
    program = compiled(conv(np.random.default_rng(SEED)))
    engine = golden.Engine(program, np.arange(360).reshape(1, 9, 8, 5) % 256 - 128)
    C = program.shape.slice_channels
    memory = program.place(np.arange(360).reshape(9, 8, 5) % 256 - 128)
    assert memory.shape == (9, program.map_words, C)
    assert (engine.maps[0] == memory).all()
    (layer,) = program.layers
    out = engine.run(layer)
    assert (program.take(engine.maps[0]) == out[0]).all()


def test_words_of_a_map_never_meet():
    program = compiled(nested(np.random.default_rng(SEED)))
    for layer in program.layers:
        m = layer.source
        y, x, s = np.indices((m.height, m.width, program.shape.slices(m.channels)))
        places = set(zip(m.bank(y, x, s).flat, m.word(y, x, s).flat, strict=True))
        assert len(places) == y.size


def test_depthwise_takes_slices_of_its_own():
    program = compiled(conv(np.random.default_rng(SEED), channels_in=32, depthwise=True,
                            channels=32))  # fmt: skip
    (layer,) = program.layers
    assert isinstance(layer, Conv)
    assert (layer.groups, layer.slice_step, layer.beats) == (2, 4, 4)


@pytest.mark.parametrize(
    ("net", "shape", "sentence"),
    [
        (conv, {"map_words": 40},
         r"^layer '2?.*' needs \d+ map memory words a bank, but the engine has 40$"),
        (nested, {"keep_words": 9},
         r"^layer '.*' needs \d+ residual memory words, but the engine has 9$"),
        (conv, {"acc_bits": 12}, r"^layer '.*' needs accumulators of \d+ bits, but the engine"),
        (conv, {"channels": 16}, "needs parameters for 32 channels, but the engine has 16$"),
        (conv, {"program_words": 100}, r"^program needs \d+ words of program memory, but the"),
        (conv, {"rounding": "single"}, r"^operator 0 \(conv2d .*\) must have double rounding on"),
        (conv, {"weight": Int(4)}, "must have weights that the engine codes"),
        (conv, {"act": Int(4)}, "must fit the engine's 4 bits"),
        (lambda rng: pool(rng, "AVERAGE", (3, 3), (1, 1), SAME), {},
         r"^operator 0 \(pool .*\) must have no padding on the engine"),
    ],
)  # fmt: skip
def test_refuses_what_does_not_fit(net, shape, sentence):
    with pytest.raises((ModelError, ProgramError), match=sentence):
        compiled(net(np.random.default_rng(SEED)), **shape)


def test_plan_is_within_the_need_of_small_cases():
    rng = np.random.default_rng(SEED)
    for _ in range(50):
        first = rng.integers(0, 6, 7)
        buffers = [
            Buffer(str(i), int(rng.integers(1, 20)), int(f), int(f + rng.integers(0, 4)))
            for i, f in enumerate(first)
        ]
        places, words = memory_plan.plan(buffers)
        assert words >= memory_plan.need(buffers, memory_plan.peak(buffers))
        for (a, low), (b, other) in combinations(zip(buffers, places, strict=True), 2):
            if a.meets(b):
                assert low + a.words <= other or other + b.words <= low


def test_any_flipped_bit_is_found():
    rng = np.random.default_rng(SEED)
    content = compiled(conv(rng)).to_bytes()
    for bit in rng.choice(8 * len(content), 200, replace=False).tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProgramError):
            Program.from_bytes(bytes(damaged))


def test_refuses_files_cut_short():
    content = compiled(conv(np.random.default_rng(SEED))).to_bytes()
    for size in (0, 3, 12, 100, len(content) - 4):
        with pytest.raises(ProgramError):
            Program.from_bytes(content[:size])
