"""What commands about models share: reading models and programs, a user's mistake in a sentence."""

from dataclasses import dataclass, replace
from pathlib import Path

import click

from mulfree.engine.layers import EngineShape
from mulfree.engine.program import MAGIC, Program, ProgramError
from mulfree.formats import PowerOfTwo
from mulfree.spec import Spec, SpecError
from mulfree_models.engines import engine
from mulfree_models.graph import Graph, ModelError
from mulfree_models.importers import SUFFIXES, load
from mulfree_models.lowering import lower
from mulfree_models.recode import Recoded, power_of_two

ENGINE_HELP = (
    "the network engine: name=value pairs with commas between them "
    "(kind=lutna,outputs=16,lanes=36,scalers=4,map_words=2048, …), or a Spec as JSON file"
)


@dataclass(frozen=True)
class Compiled:
    """A model, the graph that the engine computes (recoded weights), and its program."""

    graph: Graph
    computed: Graph
    program: Program
    recoded: list[Recoded]


def is_model(path: Path) -> bool:
    """Tell whether a file is a model, by its name."""
    return path.suffix in SUFFIXES


def read_engine(text: str, model: Path | None = None) -> tuple[EngineShape, Spec | None]:
    """Return an engine, one that suits a model; a user's mistake is a sentence.

    ONNX rounds once, TFLite twice, and once with 16-bit activations; what the text says holds.
    """
    if model is not None and is_model(model) and not text.endswith(".json"):
        graph = read_model(model)
        own = ["rounding=single"] if model.suffix == ".onnx" else []
        if graph.tensors[graph.input].integer.bits == 16:
            own = ["rounding=single", "act_bits=16", "acc_bits=48"]
        text = ",".join(filter(None, (*own, text)))
    try:
        return engine(text)
    except (SpecError, TypeError) as error:
        raise click.UsageError(str(error)) from None


def read_model(path: Path) -> Graph:
    """Read a model file; a user's mistake is a sentence."""
    try:
        return load(path)
    except (ModelError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def check_image(program: Program, spec: Spec | None) -> None:
    """Check that an engine's program memory holds a network.

    Raises
    ------
    SpecError
        With the need and the limit.
    """
    image = getattr(spec, "program_image", None)
    if image is not None:
        image(program)


def compile_model(path: Path, shape: EngineShape, spec: Spec | None) -> Compiled:
    """Compile a model file for an engine; a user's mistake is a sentence."""
    graph = read_model(path)
    if path.suffix == ".onnx":
        graph = replace(graph, rounding=shape.rounding)
    return compile_graph(graph, path.name, shape, spec)


def compile_graph(graph: Graph, name: str, shape: EngineShape, spec: Spec | None) -> Compiled:
    """Compile a graph for an engine; a user's mistake is a sentence that begins with `name`."""
    computed, recoded = graph, []
    try:
        if isinstance(shape.weight, PowerOfTwo):
            computed, recoded = power_of_two(graph, shape.weight)
        program = lower(computed, shape)
        check_image(program, spec)
        return Compiled(graph, computed, program, recoded)
    except (ModelError, ProgramError, SpecError) as error:
        raise click.UsageError(f"{name}: {error}") from None


def read_network(path: Path) -> Program:
    """Read a network's program; a user's mistake is a sentence."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from None
    if content[:4] == b"MFP1":
        raise click.UsageError(
            f"{path} must begin with {MAGIC.decode()}, a network, not MFP1, dense layers for the "
            "system's engine"
        )
    try:
        return Program.from_bytes(content)
    except ProgramError as error:
        raise click.UsageError(f"{path}: {error}") from None
