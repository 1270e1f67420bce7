"""`mulfree accuracy`: how often a network is right, and where it differs from its source."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from mulfree.engine.program import Coding, Program
from mulfree_models import compare, datasets, reference
from mulfree_models.commands.models import (
    ENGINE_HELP,
    compile_model,
    is_model,
    read_engine,
    read_model,
    read_network,
)
from mulfree_models.graph import Graph, ModelError
from mulfree_sim.golden import network as golden

#: Images computed at a time.
BATCH = 8


def read_data(network: Program | Graph, folder: Path, images: int | None) -> datasets.Dataset:
    """Return a folder's data for a network; a user's mistake is a sentence."""
    if isinstance(network, Program):
        shape, coding, integer = network.input_shape, network.input_coding, network.shape.act
    else:
        tensor = network.tensors[network.input]
        shape, integer = tensor.shape, tensor.integer
        coding = Coding(tensor.zero_point, tensor.scale)
    try:
        data = datasets.load(folder, shape, coding, integer)
    except datasets.DataError as error:
        raise click.UsageError(str(error)) from None
    labels, outputs = data.labels, data.outputs
    return datasets.Dataset(
        data.codes[:images],
        None if labels is None else labels[:images],
        None if outputs is None else outputs[:images],
    )


def outputs_of(
    network: Program | Graph, codes: NDArray[np.int64], progress: Progress, name: str
) -> NDArray[np.int64]:
    """Return a network's outputs, shape (n, …), and show how far it is."""
    task = progress.add_task(name, total=len(codes))
    found = []
    for first in range(0, len(codes), BATCH):
        some = codes[first : first + BATCH]
        if isinstance(network, Program):
            found.append(golden.results(network, some))
        else:
            found.append(reference.run(network, some))
        progress.advance(task, len(some))
    return np.concatenate(found)


def scores(found: NDArray[np.int64], data: datasets.Dataset) -> dict[str, Any]:
    """Return accuracy in percent and outputs that differ from those given, where known."""
    flat = found.reshape(len(found), -1)
    facts: dict[str, Any] = {}
    if data.labels is not None:
        facts["accuracy"] = 100 * float((flat.argmax(axis=1) == data.labels).mean())
    if data.outputs is not None:
        wanted = data.outputs.reshape(flat.shape)
        facts["outputs_that_differ"] = int((flat != wanted).sum())
    return facts


def distance(found: NDArray[np.int64], other: NDArray[np.int64]) -> dict[str, Any]:
    """Return how far outputs are from the source model's, in codes and in decisions."""
    flat, wanted = (a.reshape(len(a), -1) for a in (found, other))
    off = np.abs(flat - wanted)
    return {
        "differing": int((off > 0).sum()),
        "largest": int(off.max()),
        "mean": float(off.mean()),
        "same_class": 100 * float((flat.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
    }


@click.command()
@click.argument("network", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("data", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--against",
    type=click.Path(path_type=Path, dir_okay=False),
    help="source model (.tflite, .onnx): compare with it layer by layer",
)
@click.option("--images", type=click.IntRange(min=1), help="use the first so many  [default: all]")
@click.option("--engine", default="", help=ENGINE_HELP + "; compiles a model for it first")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def command(
    network: Path, data: Path, against: Path | None, images: int | None, engine: str,
    as_json: bool,
) -> None:  # fmt: skip
    r"""Measure a network on a folder of test data.

    NETWORK is a compiled program, which runs on the golden engine, or a model, which runs as it is,
    or with --engine as it would on that engine. DATA is a folder with inputs.npy and labels.npy,
    with IDX files as MNIST's, or with golden.json.

    \b
    Example:
      mulfree accuracy net.mfp data --against net.tflite
      mulfree accuracy net.tflite data --engine kind=pot,weight_bits=4
    """
    source: Graph | None = None if against is None else read_model(against)
    chosen: Program | Graph
    if not is_model(network):
        chosen = read_network(network)
    elif engine:
        compiled = compile_model(network, *read_engine(engine, network))
        chosen, source = compiled.program, source or compiled.graph
    else:
        chosen = read_model(network)
    given = read_data(chosen, data, images)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        found = outputs_of(chosen, given.codes, progress, network.name)
        facts = {"images": len(found), **scores(found, given)}
        if source is not None:
            try:
                other = outputs_of(source, given.codes, progress, "source model")
                facts["source"] = scores(other, given)
                facts["distance"] = distance(found, other)
                facts["layers"] = []
                if isinstance(chosen, Program):
                    facts["layers"] = [
                        vars(d) for d in compare.layers(chosen, source, given.codes[:BATCH])
                    ]
            except (ModelError, ValueError) as error:
                raise click.UsageError(f"source model: {error}") from None
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print(facts)


def _print(facts: dict[str, Any]) -> None:
    """Print the facts for people."""
    click.echo(f"{facts['images']} images")
    if "accuracy" in facts:
        click.echo(f"accuracy {facts['accuracy']:.2f} %")
    if "outputs_that_differ" in facts:
        click.echo(f"outputs that differ from those given: {facts['outputs_that_differ']}")
    if "distance" not in facts:
        return
    d = facts["distance"]
    if "accuracy" in facts["source"]:
        click.echo(f"accuracy of the source model {facts['source']['accuracy']:.2f} %")
    click.echo(
        f"outputs that differ from the source model's: {d['differing']}, by {d['largest']} at "
        f"most, {d['mean']:.3f} on average; same class {d['same_class']:.2f} %"
    )
    for layer in facts["layers"]:
        click.echo(
            f"  {layer['layer']}: {layer['differing']} of {layer['outputs']} outputs differ, by "
            f"{layer['largest']} at most, {layer['mean']:.3f} on average"
        )
    first = next((layer for layer in facts["layers"] if layer["first"] is not None), None)
    if first is not None:
        place = ", ".join(map(str, first["first"]))
        click.echo(f"first divergence: layer {first['layer']} at (image, row, column, channel) "
                   f"({place})")  # fmt: skip
    elif facts["layers"]:
        click.echo("first divergence: none")
