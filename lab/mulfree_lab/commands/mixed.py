"""`mulfree mixed [NETWORK DATA]`: bits and kind of MAC for each layer, and what they save."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from mulfree.engine.program import Coding
from mulfree_lab import mixed, papers
from mulfree_lab.precision import Precisions
from mulfree_models import convolutional, datasets, digits
from mulfree_models.graph import Graph, ModelError
from mulfree_models.importers import load

#: Images whose activations set the ranges.
CALIBRATION = 256


def _shipped() -> tuple[Graph, mixed.Judge, mixed.Judge]:
    """Return the convolutional digits network; training images choose, test images judge."""
    graph, data = convolutional.graph(), digits.load()
    sides = ((data.train_images, data.train_labels), (data.test_images, data.test_labels))
    chooser, held_out = (mixed.Judge(graph, convolutional.coded(x), y) for x, y in sides)
    return graph, chooser, held_out


def _given(network: Path, data: Path, shift: int) -> tuple[Graph, mixed.Judge, mixed.Judge]:
    """Return a model; every other image chooses, the rest judges."""
    graph = load(network)
    tensor = graph.tensors[graph.input]
    found = datasets.load(
        data, tensor.shape, Coding(tensor.zero_point, tensor.scale), tensor.integer
    )
    codes, labels = found.codes, found.labels
    if shift:
        codes, labels = mixed.views(codes, labels, shift)
    if len(codes) < 2:
        raise datasets.DataError(f"data must have at least 2 images, not {len(codes)}")
    chooser, held_out = (
        mixed.Judge(graph, codes[first::2], None if labels is None else labels[first::2])
        for first in (0, 1)
    )
    return graph, chooser, held_out


@click.command("mixed")
@click.argument("network", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.argument("data", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--budget",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="classes that may change, in percent: more than the accuracy lost",
)
@click.option(
    "--noise",
    type=click.FloatRange(0),
    default=0.1,
    show_default=True,
    help="energy of the outputs' errors that there may be, over that of the outputs",
)
@click.option(
    "--save",
    "weigh",
    type=click.Choice(list(mixed.WEIGHTS)),
    default="both",
    show_default=True,
    help="what the choice saves",
)
@click.option(
    "--sparsity",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="share of weights that pruning made zero: their products are left out, on both sides",
)
@click.option(
    "--shift",
    type=click.IntRange(0, 8),
    default=0,
    show_default=True,
    help="where images are few: use each shifted by up to so many pixels, and mirrored",
)
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def command(
    network: Path | None, data: Path | None, budget: float, noise: float, weigh: str,
    sparsity: float, shift: int, as_json: bool,
) -> None:  # fmt: skip
    r"""Choose bits and kind of MAC layer by layer, and count area and energy of five networks.

    NETWORK is a model (.tflite, .onnx) and DATA a folder of its test data, as for accuracy; the
    shipped convolutional digits network when both are left out. It shows what a layer can bear.

    \b
    Example:
      mulfree mixed --budget 1 --save energy
      mulfree mixed net.tflite data --sparsity 0.9
    """
    if (network is None) != (data is None):
        raise click.UsageError("a network must be given with its data")
    result = papers.load("cells_mixed")
    if result is None:
        raise click.UsageError(
            "costs of MACs must be measured first: mulfree papers --measure cells_mixed"
        )
    try:
        graph, chooser, held_out = _given(network, data, shift) if network and data else _shipped()
        precisions = Precisions(graph, chooser.codes[:CALIBRATION])
    except (ModelError, datasets.DataError) as error:
        raise click.UsageError(str(error)) from None
    console = Console(stderr=True)
    with console.status("") as status:
        found = mixed.rows(
            precisions, chooser, held_out, result, mixed.Goal(budget, noise, weigh, sparsity),
            lambda what, times: status.update(f"{what} ({times})"),
        )  # fmt: skip
    if not as_json:
        _print(found)
        return
    words = ["mulfree mixed", *(path.name for path in (network, data) if path)]
    words += [f"--budget {budget:g}", f"--noise {noise:g}", f"--save {weigh}"]
    words += [f"--sparsity {sparsity:g}", f"--shift {shift}", "--json"]
    document = {
        "command": " ".join(words),
        "digital": {"area_per_mac": found[0].digital.area, "pj_per_mac": found[0].digital.energy},
        "networks": [row.to_dict() for row in found],
    }
    click.echo(json.dumps(document, indent=1, ensure_ascii=False))


def _print(found: list[mixed.Row]) -> None:
    own = Table(title=f"{found[0].network}: what each layer is computed by")
    for heading in ("layer", "MACs", "choice"):
        own.add_column(heading, justify="right" if heading == "MACs" else "left")
    for name, macs, choice, _ in found[0].layers:
        own.add_row(name, f"{macs:,}", choice.name)
    Console().print(own)
    table = Table(title="against conventional 8-bit MACs; in brackets: by fewer bits alone")
    for heading in ("network", "MACs, M", "µJ", "conventional µJ", "area", "energy", "changed"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for row in found:
        facts = row.to_dict()
        factors = [
            f"{facts[f'{what}_factor']:.2f} × ({facts[f'{what}_factor_of_bits_alone']:.2f})"
            for what in ("area", "energy")
        ]
        table.add_row(
            row.network, f"{facts['macs_left'] / 1e6:,.1f}", f"{facts['uj_per_inference']:,.1f}",
            f"{facts['digital_uj_per_inference']:,.1f}", *factors,
            f"{facts['held_out_changed']:.2f} %",
        )  # fmt: skip
    Console().print(table)
