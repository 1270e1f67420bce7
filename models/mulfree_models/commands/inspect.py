"""`mulfree inspect`: what a network's program takes, layer by layer, before any synthesis."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mulfree.engine.layers import Conv, EngineShape, Layer
from mulfree.engine.network import NetworkSpec
from mulfree.engine.program import Program
from mulfree.spec import Spec
from mulfree_models.commands.models import (
    ENGINE_HELP,
    check_image,
    compile_model,
    is_model,
    read_engine,
    read_network,
)
from mulfree_models.engines import fitted


def layer_facts(layer: Layer, shape: EngineShape) -> dict[str, Any]:
    """Return what is known of a layer without its cycles."""
    source = layer.source
    if isinstance(layer, Conv):
        height, width, channels = layer.height, layer.width, layer.channels
        tiles, macs, kind = layer.groups * layer.beats, layer.macs, f"conv {layer.mode}"
        if layer.residual is not None:
            kind += " + add"
        weights = tiles * shape.lanes * shape.outputs * shape.weight.code_bits // 8
        beats = tiles * layer.pixels
    else:
        m = layer.target
        height, width, channels = m.height, m.width, m.channels
        tiles, macs, kind, weights = 0, 0, "max pool", 0
        beats = len(layer.windows) * shape.slices(channels) * m.pixels
    maps = {(m.address, m.words) for m in (source, layer.target) if m is not None}
    return {
        "name": layer.name,
        "kind": kind,
        "output": [height, width, channels],
        "macs": macs,
        "tiles": tiles,
        "beats": beats,
        "weight_bytes": weights,
        "map_words": sum(words for _, words in maps),
        "keep_words": layer.kept_words(shape)
        if isinstance(layer, Conv) and layer.keep is not None
        else 0,
    }


def network_facts(program: Program, spec: Spec | None) -> dict[str, Any]:
    """Return what is known of a program on an engine."""
    shape = program.shape
    layers = [layer_facts(layer, shape) for layer in program.layers]
    cycles = layer_cycles(program, spec)
    lanes = shape.lanes * shape.outputs
    for facts, clocks in zip(layers, cycles or [None] * len(layers), strict=True):
        facts["cycles"] = clocks
        facts["utilisation"] = facts["macs"] / lanes / (clocks or facts["beats"] or 1)
    total = sum(cycles) if cycles else None
    macs = sum(facts["macs"] for facts in layers)
    beats = sum(facts["beats"] for facts in layers)
    return {
        "name": program.name,
        "needs": program.needs,
        "engine": None if cycles is None else spec.to_dict(),
        "program_words": len(program.to_bytes()) // 4,
        "macs": macs,
        "beats": beats,
        "cycles": total,
        "reads": None if cycles is None else sum(spec.layer_reads(program)),
        "utilisation": macs / lanes / (total or beats or 1),
        "layers": layers,
    }


def layer_cycles(program: Program, spec: Spec | None) -> list[int] | None:
    """Return the clocks of each layer, or None where the engine's hardware is not known."""
    cycles = getattr(spec, "layer_cycles", None)
    return None if cycles is None else list(cycles(program))


@click.command()
@click.argument("network", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--engine", default="", help=ENGINE_HELP)
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def command(network: Path, engine: str, as_json: bool) -> None:
    r"""Show a network's layers: work, weights, memory, cycles, use of the array.

    NETWORK is a compiled program, or a model, which is compiled for the engine first. Where the
    engine has no cycle count, its use is that of the beats alone.

    \b
    Example:
      mulfree inspect net.mfp
      mulfree inspect net.tflite --engine kind=pot,weight_bits=4,outputs=16,lanes=36
    """
    shape, spec = read_engine(engine, network)
    if is_model(network):
        program = compile_model(network, shape, spec).program
    else:
        program = read_network(network)
        if engine:
            try:
                program.check_runs_on(shape)
                check_image(program, spec)
            except ValueError as error:
                raise click.UsageError(str(error)) from None
        else:
            # The hardware of the default engine is not that of the program.
            spec = _spec_of(program)
    if isinstance(spec, NetworkSpec):
        spec = fitted(spec, engine, program)
    facts = network_facts(program, spec)
    if as_json:
        click.echo(json.dumps(facts))
        return
    table = Table(
        "layer", "kind", "output", "MACs", "tiles", "beats", "cycles", "array", "weights", "map",
        "kept",
    )  # fmt: skip
    for row in (*facts["layers"], facts):
        table.add_row(
            row["name"],
            row.get("kind", "all"),
            " × ".join(map(str, row.get("output", program.output_shape))),
            f"{row['macs']:,}",
            str(row.get("tiles", "")),
            f"{row['beats']:,}",
            "?" if row["cycles"] is None else f"{row['cycles']:,}",
            f"{100 * row['utilisation']:.0f} %",
            f"{row['weight_bytes']:,}" if "weight_bytes" in row else "",
            str(row.get("map_words", program.map_words)),
            str(row.get("keep_words", program.keep_words)),
        )
    Console(width=None if Console().is_terminal else 160).print(table)
    click.echo(
        f"weights in bytes; map: words in each of nine banks, {shape_words(program)}; "
        f"program file {facts['program_words']} words"
    )
    if facts["cycles"] is not None:
        click.echo(
            f"cycles: with {spec.core.load_beats} beats to load a tile (fill_lanes), chunks of "
            f"{spec.chunk} pixels; --engine says another engine"
        )
        click.echo(
            f"a run reads {facts['reads']:,} words of the program, of {spec.word_bits} bits each"
        )


def shape_words(program: Program) -> str:
    """Return what a word of each memory is."""
    shape = program.shape
    return (
        f"each {shape.slice_channels} activations; kept: words of {shape.scalers} activations; "
        f"array {shape.outputs} × {shape.lanes}"
    )


def _spec_of(program: Program) -> Spec | None:
    """Return a Spec of an engine that runs a program, or None."""
    shape = program.shape
    terms = program.needs["weight_terms"]
    kind = f"pot,terms={terms}" if terms else "lutna"
    text = (
        f"kind={kind},outputs={shape.outputs},lanes={shape.lanes},scalers={shape.scalers},"
        f"weight_bits={shape.weight.bits},act_bits={shape.act.bits},rounding={shape.rounding},"
        f"acc_bits={shape.acc_bits}"
    )
    return read_engine(text)[1]
