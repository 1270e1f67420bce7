"""A network engine for a network and a board: what fits, and how what does not is refused."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from mulfree import cli
from mulfree.engine.layers import EngineShape
from mulfree.engine.program import Program
from mulfree.soc.networksoc import NetworkSocSpec
from mulfree.spec import Spec, SpecError
from mulfree_boards import BOARDS, sizing
from mulfree_boards.estimate import estimate
from mulfree_boards.flow import BuildError
from mulfree_models.importers import load
from mulfree_models.lowering import lower
from mulfree_models.recode import digits_graph
from mulfree_sim import random_networks
from tests.models.layers import chain

SEED = 71
BOARD = BOARDS["ulx3s-25f"]


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Run a command in a folder of its own; return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["mulfree", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capfd.readouterr()

    return call


def assert_fits(board, sized):
    expected = estimate(sized.spec, board.device.technology)
    assert expected.luts <= sizing.FILLED * board.device.luts
    assert expected.ff <= sizing.FILLED * board.device.ff
    assert expected.ram <= board.device.ram
    if sized.spec.core.unit == "lutna":  # a tile lies in small memories
        assert sized.spec.core.table_lanes % sized.spec.core.fill_lanes == 0
    sized.program.check_runs_on(EngineShape.of(sized.spec))
    assert len(sized.spec.program_image(sized.program)) <= sized.spec.program_words


@pytest.mark.parametrize("board", ["ulx3s-25f", "ulx3s-85f", "arty-z7-20"])
def test_a_model_gets_the_fastest_that_fits(board):
    board = BOARDS[board]
    sized = sizing.of_graph(board, digits_graph(), {})
    assert_fits(board, sized)
    assert sized.spec.bridge == board.bridge
    small = sizing.of_graph(board, digits_graph(), {"outputs": 2, "lanes": 9})
    assert (small.spec.core.outputs, small.spec.core.lanes) == (2, 9)
    assert sized.cycles < small.cycles


def test_utilization_is_a_networks(run):
    code, output, errors = run("build", "ulx3s-25f", "--utilization", "0.8", "--dry-run")
    assert (code, output) == (2, "")
    assert "utilization must come with --network" in errors
    assert errors.count("\n") == 1


def test_more_of_a_chip():
    """It can be asked for, by who knows that it will be routed."""
    board = BOARDS["ulx3s-85f"]
    with pytest.raises(BuildError, match="of which 70% may be used"):
        sizing.of_graph(board, digits_graph(), {"outputs": 16, "lanes": 36})
    sized = sizing.of_graph(board, digits_graph(), {"outputs": 16, "lanes": 36}, 0.8)
    expected = estimate(sized.spec, board.device.technology)
    assert 0.7 < expected.luts / board.device.luts <= 0.8


def test_a_program_gets_an_engine_of_its_shape():
    shape = EngineShape(outputs=4, slice_channels=2, scalers=2, program_words=0)
    program = lower(replace(digits_graph(), rounding="double"), shape)
    sized = sizing.of_program(BOARD, program, {})
    assert_fits(BOARD, sized)
    assert sized.program is program
    assert EngineShape.of(sized.spec).scalers == 2
    slow = NetworkSocSpec.for_program(program, chunk=4)
    assert sized.cycles <= program.cycles(slow)
    with pytest.raises(SpecError, match="lanes must be 18, as the program is laid out, not 9"):
        sizing.of_program(BOARD, program, {"lanes": 9})


def test_powers_of_two():
    sized = sizing.of_graph(BOARD, digits_graph(), {"kind": "pot", "weight_bits": 4})
    assert_fits(BOARD, sized)
    assert sized.spec.core.unit == "pot"
    assert sizing.of_program(BOARD, sized.program, {}).spec.core == sized.spec.core


def test_refuses_with_layer_need_and_limit(tmp_path):
    net = chain(np.random.default_rng(SEED), ("conv", 64), ("conv", 128), ("conv", 128))
    (tmp_path / "net.tflite").write_bytes(net.to_bytes())
    graph = load(tmp_path / "net.tflite")
    with pytest.raises(BuildError) as error:
        sizing.of_graph(BOARD, graph, {})
    said = str(error.value)
    assert f"{graph.name} cannot fit the LFE5U-25F of ulx3s-25f: it would take " in said
    assert f"(layer {graph.ops[-1].output}: 147,456 bytes)" in said
    assert said.endswith("and there are 56")
    with pytest.raises(BuildError, match=r"the smallest engine would take about .* LUTs for 5,280"):
        sizing.of_graph(BOARDS["icebreaker"], digits_graph(), {})


@pytest.mark.parametrize("filled", [sizing.FILLED, 0.4])
def test_dry_run(run, tmp_path, filled):
    words = ["--utilization", filled] if filled != sizing.FILLED else []
    words = ["build", "ulx3s-25f", "--network", "digits", *words, "--dry-run", "--json"]
    code, output, errors = run(*words)
    assert (code, errors) == (0, "")
    facts = json.loads(output)
    spec = Spec.from_dict(facts["spec"])
    sized = sizing.of_graph(BOARD, digits_graph(), {}, filled)
    assert spec == sized.spec
    assert facts["network"]["cycles"] == sized.cycles
    rate = facts["clock_mhz"] * 1e6 / sized.cycles
    assert facts["network"]["inferences_per_second"] == pytest.approx(rate, abs=0.1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["net.mfp", "--acc-slots", "4"], "acc_slots must not be given with --network"),
        (["net.mfp", "--outputs", "8"], "outputs must be 4, as the program is laid out, not 8"),
        (["net.mfp", "--kind", "pot"], "kind must be one of integer weights, as the program is"),
        (["digits", "--digit-bits", "9"], "digit_bits must be at most act_bits (8), not 9"),
        (["absent.mfp"], "cannot read absent.mfp: No such file"),
        (["damaged.mfp"], "damaged.mfp: program's CRC-32 must be"),
        (["absent.tflite"], "model must be readable, not absent.tflite"),
        (["digits", "--utilization", "1.5"], "1.5 is not in the range"),
        (["digits", "--lanes", "10"], "outputs must be a multiple of lanes / 9, and lanes 9, 18"),
    ],
)
def test_one_line_errors(run, tmp_path, words, sentence):
    program = random_networks.one_slice(EngineShape(outputs=4), np.random.default_rng(SEED))
    content = program.to_bytes()
    assert Program.from_bytes(content).shape.outputs == 4
    (tmp_path / "net.mfp").write_bytes(content)
    (tmp_path / "damaged.mfp").write_bytes(content[:80] + b"\x55" + content[81:])
    code, output, errors = run("build", "ulx3s-25f", "--network", *words, "--dry-run")
    assert (code, output) == (2, "")
    assert sentence in errors
    assert errors.count("\n") == 1
