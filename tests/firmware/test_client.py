import json
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mulfree.cli import commands
from mulfree.soc.program import Program, ProgramError
from mulfree.soc.registers import register_map
from mulfree_firmware.client import Board, BoardError
from mulfree_firmware.line import Line, LineError
from mulfree_models import digits
from mulfree_models.program import compile_network, digits_network
from mulfree_sim.golden import soc as golden
from mulfree_sim.programs import random_inputs, random_program
from mulfree_sim.virtual_board import VirtualBoard

MAP = register_map()
IDENTITY = MAP.id.fields["value"].reset


@pytest.fixture(scope="module")
def program(system) -> Program:
    return compile_network(digits_network(system), system)


@pytest.fixture
def line(board):
    line = Line(board.port)
    yield line
    line.close()


def test_discovers(line, system):
    able = Board(line).discover()
    assert (able.kind, able.target) == ("lutna", system.target)
    assert (able.program_words, able.data_words) == (system.program_words, system.data_words)


def test_long_bursts(line):
    words = np.random.default_rng(1).integers(0, 1 << 32, 512).tolist()
    line.write(MAP.data.offset, words)
    assert line.read(MAP.data.offset, 512) == words


def test_digits_are_the_same_everywhere(line, system, program):
    """Golden model, quantised network and virtual board give the same bytes."""
    data = digits.load()
    real, labels = digits.scaled(data.test_images), data.test_labels
    codes = program.encode(real)
    on_board = Board(line).run(program, codes)
    on_golden = golden.results(system, program, codes)
    network = digits_network(system).activations(real)[-1]
    assert (on_board.outputs == on_golden).all()
    assert (on_board.outputs == network).all()
    shown = {
        "board": digits.accuracy(on_board.outputs.argmax(axis=1), labels),
        "golden": digits.accuracy(on_golden.argmax(axis=1), labels),
    }
    print(f"\naccuracy in percent: {shown}; {on_board.cycles / len(real):.0f} clocks an image")
    assert shown["board"] >= 96


def test_cycles_do_not_depend_on_the_data(line, system):
    rng = np.random.default_rng(5)
    program = random_program(system, rng, [9, 6, 3], 2)
    board = Board(line)
    board.run(program, random_inputs(program, rng, 2))
    runs = [board.run(program, random_inputs(program, rng, 2)).cycles for _ in range(3)]
    assert len(set(runs)) == 1


def test_nothing_to_run(line, program):
    found = Board(line).run(program, np.zeros((0, 64), np.int64))
    assert found.outputs.shape == (0, 10)


def test_refuses_before_anything_is_sent(line, program):
    with pytest.raises(ProgramError, match=r"input must have shape \(images, 64\), not \(1, 63\)"):
        Board(line).run(program, np.zeros((1, 63), np.int64))


def test_ports_that_are_not_there(tmp_path):
    with pytest.raises(LineError, match=f"port {tmp_path}/tty cannot be opened"):
        Line(f"{tmp_path}/tty")
    with pytest.raises(LineError, match="cannot be opened"):
        Line("nonsense://x")


def test_a_port_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = Line(f"socket://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
        with pytest.raises(BoardError, match="identification failed 2 times, at last because"):
            Board(line, attempts=2).discover()
        line.close()


def test_a_port_that_echoes():
    """Something answers, but is not ours."""
    line = Line("loop://", timeout=0.05)
    with pytest.raises(BoardError, match="identification failed 2 times"):
        Board(line, attempts=2).discover()
    line.close()


def test_on_a_pty(system):
    """A second board, on a pseudo-terminal."""
    with VirtualBoard(system, pty=True) as board:
        line = Line(board.port)
        rng = np.random.default_rng(6)
        program = random_program(system, rng, [6, 5], 2)
        act = random_inputs(program, rng, 3)
        found = Board(line).run(program, act)
        assert (found.outputs == golden.results(system, program, act)).all()
        line.close()


# LiteX's own client and server, unmodified.


def comm_uart(port):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("litex.tools.remote.comm_uart", reason="litex is missing")
    return module.CommUART(port)


def test_litex_client(board):
    client = comm_uart(board.port)
    try:
        assert client.read(0) == IDENTITY
        words = list(range(1, 101))
        client.write(MAP.data.offset, words)
        assert client.read(MAP.data.offset, 100) == words
        client.write(MAP.scratch.offset, [7, 8], burst="fixed")
        assert client.read(MAP.scratch.offset, 3, burst="fixed") == [8, 8, 8]
    finally:
        client.close()


def test_litex_server(board):
    pytest.importorskip("litex", reason="litex is missing")
    with socket.create_server(("localhost", 0)) as free:
        tcp = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "litex.tools.litex_server", "--uart", "--uart-port", board.port,
         "--bind-port", str(tcp)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    client_code = (
        "import sys; from litex import RemoteClient\n"
        f"c = RemoteClient(port={tcp}); c.open()\n"
        f"c.write({MAP.program.offset}, [1, 2, 3])\n"
        f"print([c.read(0), *c.read({MAP.program.offset}, 3)])\n"
    )
    try:
        for _ in range(100):
            try:
                socket.create_connection(("localhost", tcp)).close()
                break
            except OSError:
                time.sleep(0.1)
        done = subprocess.run(
            [sys.executable, "-c", client_code], capture_output=True, text=True, timeout=30
        )
    finally:
        server.kill()
        server.wait()
    assert json.loads(done.stdout) == [IDENTITY, 1, 2, 3], done.stderr


# The command line.


def invoke(*words):
    return CliRunner().invoke(commands, [str(word) for word in words])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "digits.mfp"
    done = invoke("compile", "digits", "--board", "tang-nano-9k", "-o", path)
    assert done.exit_code == 0, done.output
    return path


def test_compile_writes_the_program(compiled, program):
    assert compiled.read_bytes() == program.to_bytes()


def test_run_on_board_and_golden(compiled, board, tmp_path):
    """Real inputs and coded ones, here and there: the same file."""
    images = digits.scaled(digits.load().test_images[:20])
    np.save(tmp_path / "real.npy", images)
    np.save(tmp_path / "codes.npy", Program.from_bytes(compiled.read_bytes()).encode(images))
    written = set()
    for on in (board.port, "golden"):
        for source in ("real", "codes"):
            out = tmp_path / "out.npy"
            done = invoke(
                "run", compiled, "--on", on, "--input", tmp_path / f"{source}.npy",
                "--output", out, "--json",
            )  # fmt: skip
            assert done.exit_code == 0, done.output
            facts = json.loads(done.output)
            assert (np.array(facts["outputs"]) == np.load(out)).all()
            assert (facts["cycles"] > 0) == (on != "golden")
            written.add(out.read_bytes())
    assert len(written) == 1


def test_run_on_sim(compiled, tmp_path):
    images = digits.scaled(digits.load().test_images[:3])
    np.save(tmp_path / "in.npy", images)
    results = [
        json.loads(
            invoke("run", compiled, "--on", on, "--input", tmp_path / "in.npy", "--json").output
        )["outputs"]
        for on in ("sim", "golden")
    ]
    assert results[0] == results[1]


def test_accuracy_is_printed(compiled, board, tmp_path):
    files = [tmp_path / name for name in ("p.mfp", "images.npy", "labels.npy")]
    done = invoke(
        "compile", "digits", "--board", "tang-nano-9k", "-o", files[0],
        "--inputs", files[1], "--labels", files[2],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert files[0].read_bytes() == compiled.read_bytes()
    run = ["run", compiled, "--input", files[1], "--labels", files[2], "--on"]
    lines = {next(iter(invoke(*run, on).output.splitlines())) for on in (board.port, "golden")}
    assert lines == {"accuracy 97.22 %"}
    np.save(files[2], np.zeros(3))
    done = invoke(*run, "golden")
    assert "labels must be 360 integers, not float64 of shape (3,)" in done.output


def test_board_describes(board):
    done = invoke("board", "--on", board.port, "--json")
    assert json.loads(done.output)["kind"] == "lutna"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["compile", "mnist", "-o", "x.mfp"],
            "network must be one of digits or a .tflite or .onnx file, not 'mnist'",
        ),
        (
            ["compile", "digits", "-o", "x.mfp", "--board", "tang-nano-9k", "--channels", "8"],
            "32 channels",
        ),
        (["board"], "one of --virtual BOARD and --on PORT must be given"),
        (["board", "--virtual", "de10"], "board must be one of"),
        (
            ["board", "--virtual", "tang-nano-9k", "--host", "x"],
            "host must be an IP address, not 'x'",
        ),
        (["run", "absent.mfp", "--on", "golden", "--input", "x.npy"], "cannot read absent.mfp"),
    ],
)
def test_one_line_errors(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(*words)
    assert done.exit_code == 2
    assert message in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 63)), "input must have shape (images, 64), not (2, 63)"),
        (np.full((1, 64), 200), "input must be between -128 and 127, not 200"),
        (np.full((1, 64), np.nan), "input must be finite"),
        (np.array([["a"] * 64]), "input must be numbers"),
    ],
)
def test_run_refuses_inputs(compiled, tmp_path, values, message):
    np.save(tmp_path / "in.npy", values)
    done = invoke("run", compiled, "--on", "golden", "--input", tmp_path / "in.npy")
    assert done.exit_code == 2
    assert message in done.output


def test_run_refuses_damage_and_silence(compiled, tmp_path):
    np.save(tmp_path / "in.npy", np.zeros((1, 64)))
    damaged = tmp_path / "damaged.mfp"
    content = bytearray(compiled.read_bytes())
    content[200] ^= 4
    damaged.write_bytes(content)
    done = invoke("run", damaged, "--on", "golden", "--input", tmp_path / "in.npy")
    assert (done.exit_code, "CRC-32" in done.output) == (2, True)
    done = invoke("run", compiled, "--on", tmp_path / "tty", "--input", tmp_path / "in.npy")
    assert done.exit_code != 0
    assert "cannot be opened" in done.output


@pytest.mark.parametrize("where", [[], ["--pty"]], ids=["tcp", "pty"])
def test_virtual_board_command(where):
    """It says where its line is, listens on this machine only, and ends when interrupted."""
    running = subprocess.Popen(
        [Path(sys.executable).with_name("mulfree"), "board", "--virtual", "tang-nano-9k", *where],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    port = running.stdout.readline().strip()
    assert port.startswith("/dev/" if where else "socket://127.0.0.1:")
    done = invoke("board", "--on", port)
    assert done.output.startswith("lutna: 4 outputs × 4 lanes, 8-bit signed activations")
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "anyone" not in errors


def test_virtual_board_says_who_can_reach_it():
    running = subprocess.Popen(
        [Path(sys.executable).with_name("mulfree"), "board", "--virtual", "tang-nano-9k",
         "--host", "0.0.0.0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline().startswith("socket://0.0.0.0:")
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert "anyone who reaches this machine can use the board" in errors
