"""Whole networks: the commands, the golden images, and what a user may break."""

import errno
import json
import os
import signal
import subprocess
import time
import zlib

import numpy as np
import pytest
from click.testing import CliRunner

from mulfree import files, tools
from mulfree.engine.layers import EngineShape
from mulfree.engine.network import NetworkSpec
from mulfree.engine.program import Program, ProgramError
from mulfree.units.baseline import BaselineSpec
from mulfree.units.lutna import LutNASpec
from mulfree.units.pot import PoTSpec
from mulfree_firmware.commands import run as run_command
from mulfree_models import compare, reference
from mulfree_models.commands import accuracy, compile, inspect
from mulfree_models.importers import load
from mulfree_models.lowering import lower
from mulfree_models.recode import power_of_two
from mulfree_sim import runner
from mulfree_sim.golden import network as golden
from tests.models.layers import chain, residual

SEED = 3


@pytest.fixture
def resnet(shared_data):
    folder = shared_data / "mlperf_tiny_resnet8"
    if not folder.is_dir():
        pytest.skip(f"no ResNet-8 in {shared_data}")
    return folder


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(residual(np.random.default_rng(SEED)).to_bytes())
    return path


def mulfree(command, *words):
    return CliRunner().invoke(command, [str(w) for w in words])


def images(folder):
    cases = json.loads((folder / "golden.json").read_text())["cases"]
    codes = np.stack([np.fromfile(folder / f"{name}.int8", np.int8) for name in cases])
    return codes.reshape(-1, 32, 32, 3), np.array(list(cases.values()))


@pytest.mark.parametrize(
    "shape",
    [
        EngineShape(program_words=0),
        EngineShape(program_words=0, outputs=32, slice_channels=2, scalers=8),
        EngineShape(
            program_words=0,
            outputs=8,
            slice_channels=1,
            scalers=1,
            map_words=4096,
            keep_words=16384,
        ),
        EngineShape(program_words=0, outputs=16, slice_channels=8, scalers=16),
    ],
    ids=lambda s: f"{s.outputs}x{s.lanes}",
)
def test_resnet_gives_the_golden_outputs(resnet, shape):
    codes, wanted = images(resnet)
    graph = load(resnet / "pretrainedResnet_quant.tflite")
    assert (reference.run(graph, codes) == wanted).all()
    program = Program.from_bytes(lower(graph, shape).to_bytes())
    assert (golden.results(program, codes) == wanted).all()
    assert all(d.differing == 0 for d in compare.layers(program, graph, codes))


def test_golden_engine_is_fast(resnet):
    codes, _ = images(resnet)
    program = lower(load(resnet / "pretrainedResnet_quant.tflite"), EngineShape(program_words=0))
    golden.results(program, codes)
    # Time of this process only, the best of three: caches are shared with whatever else runs.
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        golden.results(program, np.tile(codes, (8, 1, 1, 1)))
        seconds.append(time.process_time() - begin)
    assert 24 / min(seconds) > 20  # the aim: 20 images a second on one core


def test_compile_run_inspect_accuracy(model, tmp_path):
    program = tmp_path / "net.mfp"
    done = mulfree(compile.command, model, "-o", program, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["layers"] == 4
    graph = load(model)
    codes = np.random.default_rng(SEED).integers(-128, 128, (5, 9, 7, 6))
    wanted = reference.run(graph, codes)
    data = tmp_path / "data"
    data.mkdir()
    np.save(data / "inputs.npy", codes.astype(np.int8))
    np.save(data / "labels.npy", wanted.reshape(5, -1).argmax(axis=1))
    outputs = tmp_path / "y.npy"
    done = mulfree(
        run_command.command, program, "--on", "golden", "--input", data / "inputs.npy",
        "--output", outputs,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (np.load(outputs) == wanted).all()
    done = mulfree(accuracy.command, program, data, "--against", model, "--json")
    facts = json.loads(done.stdout)
    assert facts["accuracy"] == 100
    assert facts["distance"]["differing"] == 0
    assert len(facts["layers"]) == 4
    done = mulfree(inspect.command, program, "--json")
    facts = json.loads(done.stdout)
    assert facts["macs"] == 63 * 9 * (6 * 18 + 18 * 20 + 20 * 18) + 63 * 18 * 5
    assert [layer["kind"] for layer in facts["layers"]][2] == "conv window + add"
    assert facts["needs"]["map_words"] <= 2048
    assert facts["engine"]["unit"] == "network"
    assert facts["reads"] > sum(layer["tiles"] for layer in facts["layers"])
    shown = mulfree(inspect.command, model).stdout
    assert shown.count("conv") >= 4
    assert "beats to load a tile" in shown
    assert "words of the program, of 32 bits each" in shown


def test_real_inputs_are_coded(model, tmp_path):
    program = lower(load(model), EngineShape())
    (tmp_path / "net.mfp").write_bytes(program.to_bytes())
    coding = program.input_coding
    codes = np.random.default_rng(SEED).integers(-128, 128, (2, 9, 7, 6))
    np.save(tmp_path / "x.npy", (codes - coding.zero_point) * coding.scale)
    done = mulfree(
        run_command.command, tmp_path / "net.mfp", "--on", "golden", "--input", tmp_path / "x.npy",
        "--json",
    )  # fmt: skip
    assert json.loads(done.stdout)["outputs"] == golden.results(program, codes).tolist()


def test_16_bit_activations_run_on_the_golden_engine(tmp_path):
    rng = np.random.default_rng(SEED)
    net = chain(rng, ("conv", 9), ("pool", "MAX", (2, 2), (2, 2)), ("dense", 7), dtype="int16")
    (tmp_path / "net.tflite").write_bytes(net.to_bytes())
    codes = rng.integers(-32768, 32768, (3, 8, 8, 4))
    np.save(tmp_path / "inputs.npy", codes)
    done = mulfree(compile.command, tmp_path / "net.tflite", "-o", tmp_path / "net.mfp")
    assert done.exit_code == 0, done.output
    done = mulfree(
        run_command.command, tmp_path / "net.mfp", "--on", "golden", "--input",
        tmp_path / "inputs.npy", "--json",
    )  # fmt: skip
    wanted = reference.run(load(tmp_path / "net.tflite"), codes)
    assert json.loads(done.stdout)["outputs"] == wanted.tolist()


def test_first_divergence_is_named(model, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    np.save(data / "inputs.npy", np.random.default_rng(SEED).integers(-128, 128, (3, 9, 7, 6)))
    done = mulfree(accuracy.command, model, data, "--engine", "kind=pot,weight_bits=4", "--json")
    facts = json.loads(done.stdout)
    assert facts["layers"][0]["first"] is not None
    assert 0 < facts["distance"]["mean"] < 40
    done = mulfree(accuracy.command, model, data, "--engine", "kind=pot,weight_bits=4")
    assert f"first divergence: layer {facts['layers'][0]['layer']} at" in done.stdout


def test_accuracy_of_digits_in_mnists_form(tmp_path):
    rng = np.random.default_rng(SEED)
    net = chain(rng, ("conv", 4, (3, 3), (2, 2)), ("dense", 10), shape=(28, 28, 1))
    (tmp_path / "net.tflite").write_bytes(net.to_bytes())
    pixels = rng.integers(0, 256, (9, 28, 28)).astype(np.uint8)
    head = (2051).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in pixels.shape)
    (tmp_path / "t-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
    labels = (2049).to_bytes(4, "big") + (9).to_bytes(4, "big") + bytes(range(9))
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(labels)
    done = mulfree(accuracy.command, tmp_path / "net.tflite", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    graph = load(tmp_path / "net.tflite")
    tensor = graph.tensors[graph.input]
    real = pixels[..., None] / 255 / tensor.scale
    codes = np.clip(np.rint(real) + tensor.zero_point, -128, 127).astype(int)
    right = reference.run(graph, codes).argmax(axis=1) == np.arange(9)
    assert json.loads(done.stdout)["accuracy"] == pytest.approx(100 * right.mean())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.tflite", "-o", "n.mfp"], "model must be readable, not missing.tflite (No such"),
        (["net.tflite", "-o", "n.mfp", "--engine", "lanes=35"], "lanes must be a multiple of 9"),
        (["net.tflite", "-o", "n.mfp", "--engine", "nonsense"], "engine must be pairs name=value"),
        (["net.tflite", "-o", "n.mfp", "--engine", "speed=9"], "speed is not a parameter of a net"),
        (["net.tflite", "-o", "n.mfp", "--engine", "kind=wht"], "kind must be one of lutna, pot"),
        (["net.tflite", "-o", "n.mfp", "--engine", "map_words=20"], "map memory words a bank, but"),
        (["net.onnx", "-o", "n.mfp"], "net.onnx must be "),
        (["cut.tflite", "-o", "n.mfp"], "cut.tflite must be a"),
        (["net.tflite", "-o", "n.mfp", "--inputs", "x.npy"], "must come with a shipped network"),
        (["net.txt", "-o", "n.mfp"], "network must be one of digits or a .tflite or .onnx file"),
    ],
)
def test_compile_refuses_in_a_sentence(model, words, sentence, monkeypatch):
    folder = model.parent
    monkeypatch.chdir(folder)
    (folder / "net.onnx").write_bytes(b"junk")
    (folder / "cut.tflite").write_bytes(model.read_bytes()[:900])
    done = mulfree(compile.command, *words)
    assert done.exit_code == 2, done.output
    assert sentence in " ".join(done.output.split())
    assert not list(folder.glob("*.mfp*"))
    assert not list(folder.glob(".*"))


def test_damaged_models_are_refused(model):
    """No damage to any byte leads to anything but a graph or a sentence."""
    from mulfree_models.graph import ModelError
    from mulfree_models.importers import tflite

    content = model.read_bytes()
    rng = np.random.default_rng(SEED)
    refused = 0
    for place in rng.integers(0, len(content), 300).tolist():
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        try:
            lower(tflite.read(bytes(damaged), "net"), EngineShape())
        except (ModelError, ValueError):
            refused += 1
    assert refused > 20


def test_full_disk_leaves_nothing(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fdopen", full)
    done = mulfree(compile.command, model, "-o", tmp_path / "net.mfp")
    assert done.exit_code == 1
    assert f"cannot write to {tmp_path / 'net.mfp'}: No space left on device" in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["net.tflite"]


@pytest.mark.parametrize("point", ["fdopen", "chmod", "replace"])
@pytest.mark.parametrize("failure", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_the_former_program_stays_whole(model, tmp_path, monkeypatch, point, failure):
    """Whatever fails, and wherever: the file that was there before, and no other."""

    def fails(*_):
        raise failure

    output = tmp_path / "net.mfp"
    output.write_bytes(b"former")
    monkeypatch.setattr(files.os, point, fails)
    done = mulfree(compile.command, model, "-o", output)
    monkeypatch.undo()
    assert done.exit_code == 1
    if isinstance(failure, OSError):
        assert f"cannot write to {output}: broken" in done.output
    assert output.read_bytes() == b"former"
    assert {p.name for p in tmp_path.iterdir()} == {"net.tflite", "net.mfp"}


def test_damaged_programs_are_refused(model):
    """A flipped bit is seen; one that the CRC covers up is a program's or a sentence."""
    content = lower(load(model), EngineShape()).to_bytes()
    rng = np.random.default_rng(SEED)
    for place in rng.integers(0, len(content), 300).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ProgramError):
            Program.from_bytes(bytes(damaged))
        body = bytes(damaged[:-4])
        signed = body + zlib.crc32(body).to_bytes(4, "little")
        try:
            again = Program.from_bytes(signed)
        except ProgramError:
            continue
        assert again.to_bytes() == signed
    with pytest.raises(ProgramError):
        Program.from_bytes(content[:-4])


def test_interrupted_compile_leaves_the_former_program(model, tmp_path):
    output = tmp_path / "net.mfp"
    output.write_bytes(b"former")
    process = subprocess.Popen(
        [tools.executable("mulfree"), "compile", str(model), "-o", str(output)],
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    if process.returncode:
        assert output.read_bytes() == b"former"
        assert "cancelled" in said or "KeyboardInterrupt" in said
    else:  # it was faster
        Program.from_bytes(output.read_bytes())
    assert {p.name for p in tmp_path.iterdir()} == {"net.tflite", "net.mfp"}


def test_run_names_what_a_network_does_not_run_on(model, tmp_path):
    (tmp_path / "net.mfp").write_bytes(lower(load(model), EngineShape()).to_bytes())
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.int8))
    done = mulfree(run_command.command, tmp_path / "net.mfp", "--on", "golden", "--input",
                   tmp_path / "x.npy")  # fmt: skip
    assert done.exit_code == 2
    assert "input must have shape (n, 9, 7, 6), not (2, 3)" in " ".join(done.output.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "core",
    [
        LutNASpec(outputs=16, lanes=36, fill_lanes=2),
        PoTSpec(outputs=16, lanes=36, weight_bits=4, fill_lanes=4),
        BaselineSpec(outputs=16, lanes=36, fill_lanes=2, double_buffer=True),
    ],
    ids=lambda core: core.unit,
)
def test_resnet_on_the_hardware(resnet, tmp_path, core):
    """Three whole inferences, each output and the clocks.

    With powers of two the network is another one, and the golden engine says what it gives.
    """
    codes, wanted = images(resnet)
    engine = NetworkSpec(
        core=core, scalers=8, chunk=256, channels=64, map_words=1024, keep_words=2048
    )
    graph = load(resnet / "pretrainedResnet_quant.tflite")
    if isinstance(core, PoTSpec):
        graph, _ = power_of_two(graph, core.weight_format)
        wanted = reference.run(graph, codes)
    program = lower(graph, EngineShape.of(engine))
    assert (golden.results(program, codes) == wanted).all()
    path = tmp_path / "resnet.mfp"
    path.write_bytes(program.to_bytes())
    environment = {"MULFREE_PROGRAM": str(path), "MULFREE_INPUTS": json.dumps(codes.tolist())}
    result = runner.regress(engine, environment=environment, testcase="runs_program")
    assert result.passed, result.log
    print(f"{core.unit}: {sum(engine.layer_cycles(program)):,} clocks an image")
