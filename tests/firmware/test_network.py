"""Networks on boards: the same bytes everywhere, and never a wrong one."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from mulfree.cli import commands
from mulfree.engine.layers import EngineShape
from mulfree.engine.program import Program, ProgramError
from mulfree.soc.networksoc import NetworkSocSpec
from mulfree_firmware import network
from mulfree_firmware.client import Board, BoardError
from mulfree_firmware.line import Line, LineError
from mulfree_models import digits
from mulfree_models.importers import load
from mulfree_models.lowering import lower
from mulfree_models.program import compile_network, digits_network
from mulfree_models.recode import digits_graph
from mulfree_sim import random_networks
from mulfree_sim.golden import network as golden
from mulfree_sim.virtual_board import VirtualBoard, on_the_line
from tests.firmware.test_faults import FaultyPort

SHAPE = EngineShape(
    outputs=4, slice_channels=1, scalers=1, map_words=256, channels=32, program_words=0
)
SEED = 51


@pytest.fixture(scope="module")
def program() -> Program:
    """The digits network on a small engine."""
    return lower(digits_graph(), SHAPE)


@pytest.fixture(scope="module")
def spec(program) -> NetworkSocSpec:
    return on_the_line(NetworkSocSpec.for_program(program))


@pytest.fixture(scope="module")
def small(spec):
    """A running virtual board with the network engine."""
    with VirtualBoard(spec) as running:
        yield running


@pytest.fixture
def line(small):
    line = Line(small.port, timeout=20)
    yield line
    line.close()


@pytest.fixture(scope="module")
def files(program, tmp_path_factory):
    """The program and some images."""
    folder = tmp_path_factory.mktemp("network")
    (folder / "digits.mfp").write_bytes(program.to_bytes())
    np.save(folder / "images.npy", digits.scaled(digits.load().test_images[:4]))
    return folder


def invoke(*words):
    return CliRunner().invoke(commands, [str(word) for word in words])


def test_discovers(line, spec):
    able = Board(line).discover()
    assert able.network == spec.network
    assert able.target == spec.target
    assert "runs networks" in able.describe()


def test_digits_are_the_same_everywhere(small, files, program, spec):
    """Golden model, simulation and board write the same file, in the clocks that are foretold."""
    written, clocks = set(), {}
    for on in ("golden", "sim", small.port):
        out = files / "out.npy"
        done = invoke(
            "run", files / "digits.mfp", "--on", on, "--input", files / "images.npy",
            "--output", out, "--json",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        written.add(out.read_bytes())
        clocks[on] = json.loads(done.stdout)["cycles"]
    assert len(written) == 1
    assert clocks == {"golden": 0} | dict.fromkeys(("sim", small.port), 4 * program.cycles(spec))


def test_one_network_after_another(line, spec):
    """The board takes the next network, and the first again."""
    rng = np.random.default_rng(SEED)
    board = Board(line)
    shape = EngineShape.of(spec)
    programs = [random_networks.one_slice(shape, rng), random_networks.one_pixel(shape, rng)]
    for program in (*programs, programs[0]):
        codes = rng.integers(-128, 128, (2, *program.input_shape))
        found = network.run(board, program, codes)
        assert (found.outputs == golden.results(program, codes)).all()
        assert (found.cycles, found.repeated) == (2 * program.cycles(spec), 0)


def test_describes(small, spec):
    done = invoke("board", "--on", small.port, "--json")
    assert json.loads(done.stdout)["network"] == spec.network.to_dict()


def test_refuses_what_the_engine_does_not_run(line, program, system):
    board = Board(line)
    rng = np.random.default_rng(SEED)
    wide = random_networks.one_slice(EngineShape(outputs=8, slice_channels=1, scalers=1), rng)
    with pytest.raises(ProgramError, match="program needs outputs of 8, but the engine has 4"):
        network.run(board, wide, np.zeros((1, *wide.input_shape), np.int64))
    large = random_networks.residual(SHAPE, rng)
    with pytest.raises(ProgramError, match=r"needs keep words of at least .*, but the engine has"):
        network.run(board, large, np.zeros((1, *large.input_shape), np.int64))
    dense = compile_network(digits_network(system), system)
    with pytest.raises(BoardError, match="the board must run dense layers, not networks: lutna"):
        board.run(dense, np.zeros((1, 64), np.int64))
    with pytest.raises(BoardError, match=r"input must have shape \(n, 64\), not \(1, 63\)"):
        network.run(board, program, np.zeros((1, 63), np.int64))


def test_a_board_for_dense_layers_refuses(board, program):
    line = Line(board.port)
    with pytest.raises(BoardError, match="the board must have the network engine for digits"):
        network.run(Board(line), program, np.zeros((1, 64), np.int64))
    line.close()


@pytest.mark.parametrize("fault", [b"\x00", b"\xa5\x02", None], ids=["zero", "noise", "lost"])
def test_faults_on_the_line(small, spec, fault):
    """Whatever is added or lost, what comes back is right or reported."""
    rng = np.random.default_rng(SEED)
    program = random_networks.one_slice(EngineShape.of(spec), rng)
    line = Line(small.port, timeout=2.0, connect=FaultyPort)
    board = Board(line)
    came_through = 0
    for _ in range(3):
        board.loaded = None
        line._serial.disturb({int(rng.integers(1500)): fault})
        codes = rng.integers(-128, 128, (1, *program.input_shape))
        try:
            found = network.run(board, program, codes)
        except (BoardError, LineError, ProgramError):
            continue
        assert (found.outputs == golden.results(program, codes)).all()
        came_through += 1
    line._serial.heal()
    line.resynchronise()
    line.close()
    assert came_through


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "digits.mfp", "--on", "riscv", "--input", "images.npy"],
         "a network must run on golden, sim or a port, not riscv"),
        (["board", "--virtual", "ulx3s-85f", "--network", "images.npy"],
         "images.npy must be a network's program, MFP2"),
        (["board", "--virtual", "ulx3s-85f", "--network", "digits.mfp", "--lanes", "8"],
         "lanes must be the program's, and not given with --network"),
    ],
)  # fmt: skip
def test_one_line_errors(files, words, sentence, monkeypatch):
    monkeypatch.chdir(files)
    done = invoke(*words)
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.split())


@pytest.mark.slow
def test_resnet_is_the_same_everywhere(shared_data, tmp_path):
    """A golden image of MLPerf Tiny's ResNet-8, whole, over the line into the simulated engine."""
    folder = shared_data / "mlperf_tiny_resnet8"
    if not folder.is_dir():
        pytest.skip(f"no ResNet-8 in {shared_data}")
    shape = EngineShape(outputs=8, slice_channels=4, scalers=4, program_words=0)
    program = lower(load(folder / "pretrainedResnet_quant.tflite"), shape)
    cases = json.loads((folder / "golden.json").read_text())["cases"]
    name, wanted = next(iter(cases.items()))
    (tmp_path / "resnet.mfp").write_bytes(program.to_bytes())
    np.save(tmp_path / "x.npy", np.fromfile(folder / f"{name}.int8", np.int8).reshape(32, 32, 3))
    written = set()
    for on in ("golden", "sim"):
        done = invoke(
            "run", tmp_path / "resnet.mfp", "--on", on, "--input", tmp_path / "x.npy",
            "--output", tmp_path / "y.npy", "--json",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        facts = json.loads(done.stdout)
        written.add((tmp_path / "y.npy").read_bytes())
        assert facts["outputs"] == [wanted]
    assert len(written) == 1
    spec = NetworkSocSpec.for_program(program)
    assert (facts["cycles"], facts["repeated"]) == (program.cycles(spec), 0)
