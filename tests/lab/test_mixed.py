"""Mixed precision: the five networks' shapes, coarser layers, and what is chosen under a budget."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mulfree.formats import Int
from mulfree_lab import choices, mixed, papers
from mulfree_lab.architectures import NETWORKS
from mulfree_lab.choices import FULL, Choice, Cost
from mulfree_lab.commands.mixed import command
from mulfree_lab.mixed import Judge, Sensitivity, Verdict, at_depth, choose
from mulfree_lab.precision import LeastSquares, Precisions, coarser, decisions
from mulfree_models import convolutional, digits, reference
from tests.conftest import ROOT

#: What is published of the networks as they are made for CIFAR-10: parameters, and millions of
#: products as a tool counts them that counts pools and normalisation as well.
PUBLISHED = {
    "VGG11": (9_231_114, 153.22),
    "VGG19": (20_040_522, 399.05),
    "ResNet18": (11_173_962, 556.65),
    "ResNet34": (21_282_122, 1161.45),
    "GoogleNet": (6_166_250, 1529.43),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_their_published_size(name: str) -> None:
    layers = NETWORKS[name]()
    parameters, millions = PUBLISHED[name]
    assert sum(layer.parameters for layer in layers) == parameters
    products = sum(layer.macs for layer in layers) / 1e6
    assert products <= millions
    assert products == pytest.approx(millions, rel=0.006)
    assert len({layer.name for layer in layers}) == len(layers)


@pytest.fixture(scope="module")
def precisions() -> Precisions:
    images = digits.load().train_images[:128]
    return Precisions(convolutional.graph(), convolutional.coded(images))


@pytest.fixture(scope="module")
def judge() -> Judge:
    data = digits.load()
    codes = convolutional.coded(data.test_images[:120])
    return Judge(convolutional.graph(), codes, data.test_labels[:120])


def everywhere(precisions: Precisions, choice: Choice) -> dict[str, Choice]:
    return {op.output: choice for op in precisions.layers}


def test_products_are_counted_by_layer(precisions: Precisions) -> None:
    macs = precisions.macs()
    assert macs["conv1.1"] == 8 * 8 * 9 * 16
    assert macs["conv2.2"] == 4 * 4 * 9 * 24 * 24
    assert macs["dense"] == 32 * 10


def test_full_precision_changes_nothing(precisions: Precisions, judge: Judge) -> None:
    same = precisions.apply(everywhere(precisions, FULL))
    assert (decisions(same, judge.codes) == decisions(precisions.graph, judge.codes)).all()
    assert judge.verdict(same) == Verdict(0, 0, 0)


@pytest.mark.parametrize(
    "choice", [Choice("lutna", 4, 4), Choice("pot", 6, 4), Choice("pot", 8, 3, 2)],
    ids=lambda choice: choice.name,
)  # fmt: skip
def test_layers_are_as_coarse_as_asked(
    precisions: Precisions, judge: Judge, choice: Choice
) -> None:
    graph = precisions.apply(everywhere(precisions, choice))
    tensors: dict[str, Any] = {graph.input: judge.codes}
    for op, out in reference.activations(graph, judge.codes):
        tensors[op.output] = out
    for name in precisions.macs():
        op = graph.producer(name)
        assert op is not None
        assert np.ptp(tensors[op.inputs[0]]) < 1 << choice.act_bits
        spec = choice.spec()
        spec.weight_format.check(op.weights, "weights")
    assert judge.verdict(graph).noise < 0.2


def test_fewer_bits_are_noisier(precisions: Precisions, judge: Judge) -> None:
    acts = [Choice("digital", bits, 8) for bits in choices.ACT_BITS]
    weights = [Choice("digital", 8, bits) for bits in choices.WEIGHT_BITS]
    for chosen in (acts, weights):
        noise = [judge.verdict(precisions.apply(everywhere(precisions, c))).noise for c in chosen]
        assert noise == sorted(noise)
        assert noise[0] == 0 < noise[1]


def test_the_scale_of_least_squares_beats_the_whole_range() -> None:
    weights = np.random.default_rng(1).standard_normal((4, 400))
    found = LeastSquares(3)(weights)
    assert np.abs(found.values).max() <= 3
    off = np.square(found.values * found.scale[:, None] - weights).sum()
    whole = np.abs(weights).max(axis=1, keepdims=True) / 3
    assert off < np.square(np.rint(weights / whole) * whole - weights).sum()


def test_activations_keep_their_sign_and_zero() -> None:
    step = coarser(np.arange(256), 4)
    assert step.integer == Int(4, False)
    assert step.factor == pytest.approx(255 / 15, rel=0.1)
    assert coarser(np.arange(-128, 128), 4).integer == Int(4, True)
    assert coarser(np.zeros(3, np.int64), 4).factor == 1


#: Three choices: coarser is cheaper, and powers of two are cheaper still.
PRICE = {FULL: 1.0, Choice("digital", 4, 8): 0.6, Choice("pot", 4, 4): 0.3}
NOISE = Sensitivity(
    {name: {8: 0.0, 4: a} for name, a in (("first", 0.5), ("last", 0.01))},
    {name: {FULL.coding: 0.0, ("pot", 4, 1): w} for name, w in (("first", 0.5), ("last", 0.3))},
)
MACS = {"first": 100, "last": 1}


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0.0, {"first": FULL, "last": FULL}),
        (0.1, {"first": FULL, "last": Choice("digital", 4, 8)}),
        (0.4, {"first": FULL, "last": Choice("pot", 4, 4)}),
        (0.9, {"first": Choice("digital", 4, 8), "last": Choice("pot", 4, 4)}),
        (2.0, {"first": Choice("pot", 4, 4), "last": Choice("pot", 4, 4)}),
    ],
)
def test_greedy_choice(budget: float, expected: dict[str, Choice]) -> None:
    asked = []

    def fits(state: dict[str, Choice]) -> bool:
        asked.append(state)
        return sum(NOISE.of(name, choice) for name, choice in state.items()) <= budget

    assert choose(NOISE, PRICE, MACS, fits) == expected
    assert len(asked) < 10


def test_layers_stand_for_those_at_their_depth() -> None:
    names = ["a", "b", "c"]
    assert [at_depth(i, 5, names) for i in range(5)] == ["a", "a", "b", "c", "c"]
    assert [at_depth(i, 3, names) for i in range(3)] == names
    assert at_depth(0, 1, names) == "a"


def test_views_are_shifted_and_mirrored() -> None:
    image = np.arange(9).reshape(1, 3, 3, 1)
    codes, labels = mixed.views(image, np.array([7]), 1)
    assert codes.shape == (18, 3, 3, 1)
    assert labels is not None
    assert (labels == 7).all()
    assert (codes[4] == image[0]).all()
    assert (codes[13] == image[0, :, ::-1]).all()
    assert codes[0, ..., 0].tolist() == [[0, 0, 1], [0, 0, 1], [3, 3, 4]]


def test_factors_are_means_over_products() -> None:
    table = {FULL: Cost(10, 4), Choice("lutna", 4, 4): Cost(5, 1)}
    table[Choice("digital", 4, 4)] = Cost(6, 2)
    layers = (("a", 30, FULL, "x"), ("b", 10, Choice("lutna", 4, 4), "y"))
    verdicts = Verdict(0.5, 0.01, None), Verdict(1.0, 0.02, 0.75)
    facts = mixed.Row("two", layers, *verdicts, table, Cost(10, 4), 0.75).to_dict()
    assert facts["area_per_mac"] == 8.8  # (30 · 10 + 10 · 5) / 40, rounded to a tenth
    assert facts["area_factor"] == pytest.approx(10 / 8.75, abs=1e-3)
    assert facts["energy_factor"] == pytest.approx(4 / 3.25, abs=1e-3)
    assert facts["energy_factor_of_bits_alone"] == pytest.approx(4 / 3.5, abs=1e-3)
    assert facts["macs_left"] == 10
    assert (facts["changed"], facts["lost"]) == (0.5, None)
    assert (facts["held_out_noise"], facts["held_out_lost"]) == (0.02, 0.75)
    assert facts["uj_per_inference"] == pytest.approx(10 * 3.25e-6, abs=1e-3)


def test_every_choice_has_a_measured_cost() -> None:
    result = papers.load("cells_mixed")
    assert result is not None
    table = choices.costs(result)
    assert set(table) == set(choices.choices())
    least = choices.digital(result)
    assert least.area <= table[FULL].area
    assert least.energy <= table[FULL].energy
    for choice, cost in table.items():  # a wider one of the same kind is never cheaper
        wider = Choice(choice.kind, 8, choice.weight_bits, choice.terms)
        assert cost.area <= table[wider].area


def test_kept_results_are_within_their_budget() -> None:
    for name in papers.MIXED:
        result = papers.load(name)
        assert result is not None
        words = result["command"].split()
        budget, noise = (float(words[words.index(name) + 1]) for name in ("--budget", "--noise"))
        assert [row["network"] for row in result["networks"][1:]] == list(NETWORKS)
        for row in result["networks"]:
            assert row["changed"] <= budget
            assert row["noise"] <= noise
            assert row["energy_factor"] > row["energy_factor_of_bits_alone"] > 1


def test_the_page_shows_the_kept_results() -> None:
    page = (ROOT / "docs" / "mixed.md").read_text()
    claims = [row for row in papers.table() if row.claim.startswith("mixed precision")]
    assert len(claims) == 4
    for row in claims:
        assert row.ours in page


def test_command_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke = CliRunner().invoke
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    for words, sentence in (
        (["net.tflite"], "a network must be given with its data"),
        ([str(tmp_path / "net.onnx"), str(tmp_path)], "Error: "),
        (["--budget", "-1"], "-1"),
        (["--sparsity", "1"], "1"),
        (["--noise", "-1"], "-1"),
    ):
        done = invoke(command, words)
        assert done.exit_code == 2, done.output
        assert sentence in done.output
    monkeypatch.setattr(papers, "RESULTS", tmp_path)
    done = invoke(command, [])
    assert done.exit_code == 2
    assert "mulfree papers --measure cells_mixed" in done.output


@pytest.mark.slow
def test_command_makes_the_kept_result() -> None:
    kept = papers.load("mixed_digits")
    assert kept is not None
    words = kept["command"].split()[2:]
    found = json.loads(CliRunner().invoke(command, words, catch_exceptions=False).stdout)
    assert found == kept


@pytest.mark.slow
def test_command_takes_a_model_and_its_data(shared_data: Path) -> None:
    folder = shared_data / "mlperf_tiny_resnet8"
    words = [str(folder / "pretrainedResnet_quant.tflite"), str(folder), "--json"]
    free = ["--budget", "100", "--noise", "1e9", "--save", "area", "--sparsity", "0.9"]
    done = CliRunner().invoke(command, [*words, *free], catch_exceptions=False)
    networks = json.loads(done.stdout)["networks"]
    assert networks[0]["macs"] == 12_501_632
    for row in networks:  # without a bound, everything is as small as can be
        assert {layer["choice"] for layer in row["layers"]} == {"pot 3 × 3"}
        assert row["macs_left"] == pytest.approx(row["macs"] / 10, abs=1)
