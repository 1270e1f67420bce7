"""Networks of MLPerf Tiny's other shapes, from the file to the hardware."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mulfree_boards import BOARDS, sizing
from mulfree_boards.estimate import estimate
from mulfree_firmware.commands import run
from mulfree_models.commands import compile
from mulfree_models.importers import tflite
from tests.models.layers import inputs
from tests.models.test_tflite import peer
from tests.models.tiny import NETWORKS

SEED = 3
PAGE = Path(__file__).resolve().parents[2] / "docs" / "networks.md"


def mulfree(command, *words):
    done = CliRunner().invoke(command, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(params=NETWORKS)
def network(request, tmp_path):
    """A model's file, inputs, and what TFLite makes of them; the file has its name."""
    rng = np.random.default_rng(SEED)
    content = NETWORKS[request.param](rng).to_bytes()
    path = tmp_path / f"{request.param}.tflite"
    path.write_bytes(content)
    graph = tflite.read(content, request.param)
    codes = inputs(rng, graph.tensors[graph.input], 2)
    np.save(tmp_path / "x.npy", codes)
    right = peer(content, codes)
    assert len(np.unique(right)) > 3
    return path, codes, right


def test_compiled_as_it_is(network, tmp_path):
    """Without an engine's sizes: its memories are as large as it takes."""
    path, _, right = network
    mulfree(compile.command, path, "-o", tmp_path / "net.mfp")
    mulfree(
        run.command, tmp_path / "net.mfp", "--on", "golden", "--input", tmp_path / "x.npy",
        "--output", tmp_path / "y.npy",
    )  # fmt: skip
    assert (np.load(tmp_path / "y.npy") == right).all()


def test_a_board_has_room(network):
    """As much of it as the page says."""
    path, _, _ = network
    board = BOARDS["ulx3s-85f"]
    sized = sizing.of_graph(board, tflite.read(path.read_bytes(), "net"), {})
    core, ram = sized.spec.core, estimate(sized.spec, board.device.technology).ram
    assert ram <= board.device.ram
    (row,) = re.findall(rf"^\| {path.stem.replace('_', ' ')}: .*$", PAGE.read_text(), re.MULTILINE)
    figures = f"| {core.outputs} outputs × {core.lanes} lanes | {sized.cycles:,} | {ram} |"
    assert row.endswith(figures)


@pytest.mark.parametrize("network", ["keyword_spotting"], indirect=True)
def test_the_smallest_engines_are_tried_last(network):
    """Block RAM is what there is too little of: arrays that are far from filling the chip."""
    path, _, _ = network
    graph = tflite.read(path.read_bytes(), "net")
    sized = sizing.of_graph(BOARDS["ulx3s-25f"], graph, {})
    assert sized.spec.keep_words == 0
    assert sized.cycles < 100_000


@pytest.mark.slow
def test_on_the_hardware(network, tmp_path):
    path, _, right = network
    mulfree(compile.command, path, "--engine", "outputs=8,lanes=36", "-o", tmp_path / "net.mfp")
    said = mulfree(
        run.command, tmp_path / "net.mfp", "--on", "sim", "--input", tmp_path / "x.npy",
        "--output", tmp_path / "y.npy",
    )  # fmt: skip
    assert "2 images" in said
    assert (np.load(tmp_path / "y.npy") == right).all()
