import json

import numpy as np
import pytest

from mulfree import SpecError
from mulfree.engine.layers import EngineShape
from mulfree.engine.program import ProgramError
from mulfree.soc import windows
from mulfree.soc.networksoc import NetworkSocSpec
from mulfree.soc.windows import Words
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_sim import random_networks, runner
from mulfree_sim.golden import networksoc as golden

SEED = 41
SMALL = {
    "bit_clocks": 4,
    "timeout_bits": 10,
    "scalers": 2,
    "chunk": 16,
    "map_words": 256,
    "keep_words": 512,
    "program_words": 4096,
    "channels": 16,
}


def small(**parameters) -> NetworkSocSpec:
    core = BaselineSpec(outputs=4, lanes=9)
    return NetworkSocSpec(**({"core": core, "bridge": "wishbone"} | SMALL | parameters))


WIDE = small(
    core=PoTSpec(outputs=8, lanes=72, fill_lanes=12), scalers=8, map_words=128, program_words=2048
)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"core": BaselineSpec(outputs=4, lanes=10)}, "lanes must be 9, 18, 36 or 72, not 10"),
        ({"map_words": 16385}, "map_words must be at most 16384 behind a bus, not 16385"),
        (
            {"core": BaselineSpec(outputs=8, lanes=72), "scalers": 8, "map_words": 8193},
            "map_words must be at most 8192 behind a bus, not 8193",
        ),
        (
            {"program_words": 262145},
            "program_words must be at most 262144 behind a bus, not 262145",
        ),
        ({"program": "stream"}, "program must be memory behind a bus, not 'stream'"),
        ({"bridge": "spi"}, "bridge must be one of uart, wishbone, axilite, not 'spi'"),
    ],
)
def test_spec_refuses(parameters, message):
    with pytest.raises(SpecError) as error:
        small(**parameters)
    assert str(error.value) == message


def test_spec_survives_json():
    assert NetworkSocSpec.from_json(WIDE.to_json()) == WIDE


@pytest.mark.parametrize("spec", [small(), WIDE, small(core=LutNASpec(outputs=4, lanes=9))])
def test_description(spec):
    """It gives the engine back, and tells when programs are laid out in another way."""
    assert NetworkSocSpec.described(spec.description) == spec.network
    about = json.loads(spec.description)
    about["layout"] ^= 1
    with pytest.raises(SpecError, match="engine must be of this mulfree"):
        NetworkSocSpec.described(json.dumps(about).encode())
    with pytest.raises(SpecError, match="description must be that of a network engine"):
        NetworkSocSpec.described(b"\xff\xff")


@pytest.mark.parametrize("spec", [small(), WIDE, small(core=BaselineSpec(outputs=4, lanes=18))])
def test_inputs_and_outputs_in_the_windows(spec):
    """What is written at the input's places is read at the output's where they are one map."""
    rng = np.random.default_rng(SEED)
    program = random_networks.several_groups(EngineShape.of(spec), rng)
    same = type(program)(
        **{f: getattr(program, f) for f in program.__dataclass_fields__}
        | {"output": program.input, "output_shape": program.input_shape}
    )
    codes = rng.integers(-128, 128, program.input_shape)
    written = windows.input_words(same, codes)
    assert [(r.offset, len(r.words)) for r in written] == [
        (r.offset, len(r.words)) for r in windows.output_places(same)
    ]
    assert (windows.output_codes(same, written) == codes).all()


def test_a_word_elsewhere_has_another_crc():
    right = windows.crc([Words(3, (1, 2)), Words(9, (0,))])
    assert windows.crc([Words(3, (1,)), Words(4, (2,)), Words(9, (0,))]) == right
    assert windows.crc([Words(3, (1, 2)), Words(8, (0,))]) != right


@pytest.mark.parametrize("kind", random_networks.KINDS)
def test_a_system_for_a_program_runs_it(kind):
    program = random_networks.KINDS[kind](EngineShape.of(small()), np.random.default_rng(SEED))
    spec = NetworkSocSpec.for_program(program)
    codes = np.zeros((1, *program.input_shape), np.int64)
    assert golden.results(spec, program, codes).shape == (1, *program.output_shape)
    assert spec.program_words == max(16, len(spec.program_image(program)))
    with pytest.raises(ProgramError, match="program needs outputs of 4, but the engine has 8"):
        golden.results(WIDE, program, codes)


@pytest.mark.parametrize("spec", [small(), WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("kind", random_networks.KINDS)
def test_size_of_an_image(spec, kind):
    rng = np.random.default_rng(SEED)
    program = random_networks.KINDS[kind](EngineShape.of(spec), rng)
    engine = NetworkSocSpec.around(program, core=spec.core)
    assert windows.image_size(engine, program) == len(engine.program_image(program))


def regress(spec: NetworkSocSpec) -> None:
    simulator = "icarus" if runner.available("icarus") else "verilator"
    result = runner.regress(spec, simulator=simulator, seed=SEED)
    assert result.passed, result.log


def test_on_wishbone():
    regress(small())


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        small(bridge="uart", program_words=1024),
        small(bridge="axilite", core=LutNASpec(outputs=4, lanes=9, fill_lanes=3)),
        WIDE,
    ],
    ids=["uart", "axilite", "words of two halves"],
)
def test_other_systems(spec):
    regress(spec)
