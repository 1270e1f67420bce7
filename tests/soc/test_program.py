import dataclasses
import zlib
from itertools import pairwise

import numpy as np
import pytest

from mulfree.soc.presets import preset
from mulfree.soc.program import Program, ProgramError
from mulfree.soc.top import SocSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_sim.golden import soc as golden
from mulfree_sim.programs import random_inputs, random_program

SEED = 12
SPECS = [
    SocSpec(core=LutNASpec(outputs=3, lanes=8)),
    SocSpec(core=LutNASpec(outputs=4, lanes=4, act_bits=5, act_signed=False, weight_bits=6)),
    SocSpec(core=PoTSpec(outputs=4, lanes=4, terms=2, weight_bits=4)),
]


@pytest.fixture
def rng():
    return np.random.default_rng(SEED)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.core.unit)
@pytest.mark.parametrize("widths", [[1, 1], [8, 3], [13, 7, 5, 2]], ids=str)
def test_binary_form_survives(spec, widths, rng):
    program = random_program(spec, rng, widths, batch=3)
    content = program.to_bytes()
    again = Program.from_bytes(content)
    assert again.to_bytes() == content
    act = random_inputs(program, rng, 5)
    for layer, other in zip(program.layers, again.layers, strict=True):
        assert (layer.weights == other.weights).all()
    assert (golden.results(spec, program, act) == golden.results(spec, again, act)).all()


def test_golden_is_the_formula(rng):
    spec = SPECS[0]
    program = random_program(spec, rng, [5, 4], 1)
    layer, act = program.layers[0], random_inputs(program, rng, 20)
    for row, got in zip(act.tolist(), golden.results(spec, program, act).tolist(), strict=True):
        for o, out in enumerate(got):
            total = sum(int(w) * a for w, a in zip(layer.weights[o], row, strict=True))
            total = (total + int(layer.bias[o])) * int(layer.multiplier[o])
            bits = 31 - int(layer.shift[o])
            rounded = (total + (1 << (bits - 1))) >> bits
            assert out == min(max(rounded + layer.zero_point, layer.low), layer.high)


def test_inputs_and_outputs_survive_packing(rng):
    program = random_program(SPECS[0], rng, [5, 5], 2)
    act = random_inputs(program, rng, 2)
    words = program.pack(act)
    assert words.size == 2 * program.strides[0]
    same = dataclasses.replace(program, layers=program.layers)
    rows = words.view(np.int8).reshape(2, -1)[:, :5]
    assert (rows == act).all()
    wide = np.zeros((2, 4 * program.strides[1]), np.int8)
    wide[:, :5] = act
    assert (same.unpack(wide.reshape(-1).view("<u4"), 2) == act).all()


def test_neighbours_do_not_overlap(rng):
    program = random_program(SPECS[0], rng, [20, 7, 30, 2], 4)
    spans = [
        (base, base + stride * program.batch)
        for base, stride in zip(program.bases, program.strides, strict=True)
    ]
    for (low, high), (other_low, other_high) in pairwise(spans):
        assert high <= other_low or other_high <= low
        assert max(high, other_high) <= program.data_words


def resigned(words: np.ndarray, place: int, value: int) -> bytes:
    words = words.copy()
    words[place] = value
    words[-1] = zlib.crc32(words[:-1].tobytes())
    return words.tobytes()


def test_refuses_damaged_files(rng):
    program = random_program(SPECS[0], rng, [5, 4], 2)
    words, content = program.to_words(), program.to_bytes()
    cases = {
        "program must be whole words with a header, not 3 bytes": b"MFP",
        "program must begin with MFP1, not b'PK": b"PK" + content[2:],
        "program's format must be 1, not 2": resigned(words, 1, 2),
        f"program must have the {len(words)} words it states, not {len(words) - 1}": content[:-4],
        "program's CRC-32 must be": content[:80] + bytes([content[80] ^ 1]) + content[81:],
        "layer must be of type 1, not 2": resigned(words, 16, 2 | 8 << 16),
        "layer's weights and parameters must lie within": resigned(words, 20, 60000),
        "program's layout must follow from its layers": resigned(words, 9, 77),
    }
    for sentence, damaged in cases.items():
        with pytest.raises(ProgramError) as error:
            Program.from_bytes(damaged)
        assert str(error.value).startswith(sentence)


def test_any_flipped_bit_is_found(rng):
    content = random_program(SPECS[0], rng, [5, 4], 2).to_bytes()
    for bit in rng.choice(8 * len(content), 200, replace=False).tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProgramError):
            Program.from_bytes(bytes(damaged))


@pytest.mark.parametrize("act", [np.zeros((1, 4), int), np.full((1, 5), 128), np.zeros(5, int)])
def test_refuses_inputs(act, rng):
    with pytest.raises(ValueError, match="input must"):
        random_program(SPECS[0], rng, [5, 4], 2).pack(act)


def test_refusal_names_both_sides(rng):
    program = random_program(preset("icebreaker"), rng, [8, 4], 2)
    other = preset("ulx3s-85f")
    with pytest.raises(ProgramError) as error:
        golden.results(other, program, random_inputs(program, rng, 1))
    assert "program needs 2 outputs × 4 lanes" in str(error.value)
    assert "but the engine has 16 outputs × 16 lanes" in str(error.value)
    own = preset("icebreaker")
    with pytest.raises(ProgramError, match=r"words of data memory, but the engine has 3$"):
        program.check_runs_on(own.target, own.program_words, 3)
