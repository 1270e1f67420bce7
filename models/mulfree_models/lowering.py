"""From a graph to a Program: layers of an engine, their weights in tiles, their maps in memory.

A graph's operators become drafts first, convolutions and maximum pools of whatever size; a sum
becomes the residual of the convolution before it, a concatenation a common place for its parts.
Then memory is planned, and drafts become layers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mulfree.engine.layers import TAPS, Conv, EngineShape, FeatureMap, MaxPool, Requantize, Residual
from mulfree.engine.program import Coding, Program
from mulfree.formats import Int
from mulfree_models import memory_plan
from mulfree_models.graph import (
    Add,
    Concat,
    Conv2D,
    Dense,
    Graph,
    Mean,
    ModelError,
    Op,
    Pad,
    Pool,
    Rescale,
    Reshape,
    Softmax,
    place_of,
)
from mulfree_models.memory_plan import Buffer
from mulfree_models.reference import add_term, divided
from mulfree_models.residual import tables
from mulfree_sim.golden.requantizer import multiply_by_quantized_multiplier

Array = NDArray[np.int64]
Shape3 = tuple[int, int, int]

#: Rows, and columns, of a window.
WINDOW = 3


@dataclass(kw_only=True)
class Draft:
    """A layer before it has places: of one map to another, named by tensors of the graph."""

    name: str
    source: str
    output: str
    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    origin: tuple[int, int] = (0, 0)


@dataclass(kw_only=True)
class ConvDraft(Draft):
    """Weights are (outputs, height, width, inputs / groups); the bias has the zero point in it."""

    weights: Array
    bias: Array
    multiplier: Array
    shift: Array
    zero_point: int
    low: int
    high: int
    fill: int
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    macs: int = 0
    add: "AddDraft | None" = None
    keep: bool = False


@dataclass(kw_only=True)
class PoolDraft(Draft):
    """A maximum over `kernel`."""

    kernel: tuple[int, int]
    low: int
    high: int


@dataclass(kw_only=True)
class AddDraft:
    """The sum at a convolution's end: which tensor is kept, and the operator."""

    kept: str
    op: Add
    own_factor: tuple[int, int]
    own_zero_point: int
    kept_factor: tuple[int, int]


@dataclass
class Storage:
    """A block of the map memory: pixels, slices of a cell, and the layers that need it."""

    height: int
    width: int
    pitch: int


def canonical(shape: tuple[int, ...]) -> Shape3:
    """Return a shape as (height, width, channels)."""
    if len(shape) > 3:
        raise ModelError(f"shape must be of height, width and channels, not {shape}")
    height, width, channels = (1,) * (3 - len(shape)) + shape
    return height, width, channels


def lower(graph: Graph, shape: EngineShape) -> Program:
    """Lay a graph out for an engine.

    Raises
    ------
    ModelError
        An operator does not map to the engine, or the network needs more than there is; with the
        layer, the need and the limit.
    """
    return _Lowering(graph, shape).program()


class _Lowering:
    """One graph on its way to one engine."""

    def __init__(self, graph: Graph, shape: EngineShape) -> None:
        self.graph = graph
        self.shape = shape
        self.drafts: list[Draft] = []
        #: Tensor -> the tensor whose map it is, for shapes that differ in name only.
        self.alias: dict[str, str] = {}
        self.maps: dict[str, Shape3] = {}
        #: Tensor -> tensor and padding that stand for it.
        self.padded: dict[str, tuple[str, tuple[int, int, int, int]]] = {}
        #: Tensor -> (concatenation, first slice in it).
        self.home: dict[str, tuple[str, int]] = {}
        #: Tensor -> place of each channel among the channels of its slices.
        self.positions: dict[str, Array] = {}
        self.softmax = 0.0

    # Operators to drafts

    def program(self) -> Program:
        """Return the Program."""
        graph, shape = self.graph, self.shape
        ops = list(graph.ops)
        end = graph.output
        while ops and isinstance(ops[-1], Softmax | Reshape) and ops[-1].output == end:
            if any(end in op.inputs for op in ops):
                break
            op = ops.pop()
            end = op.inputs[0]
            if isinstance(op, Softmax):
                if self.softmax:
                    raise self.refuse(op, "one softmax", "two")
                self.softmax = op.beta
        self.ops = ops
        for tensor in graph.tensors.values():
            if tensor.integer.low < shape.act.low or tensor.integer.high > shape.act.high:
                raise ModelError(
                    f"activations of {tensor.name!r} must fit the engine's {shape.act.bits} bits "
                    f"({'signed' if shape.act.signed else 'unsigned'}), "
                    f"not take {tensor.integer.bits}"
                )
        self.find_maps()
        self.sums = self.choose_sums()
        for op in ops:
            self.draft(op)
        end = self.root(end)
        if end in self.home or end == graph.input or not self.plain(end):
            end = self.copy(end, "output")
        if not self.drafts:
            raise ModelError("model must have a layer for the engine, not none")
        return self.placed(end)

    def refuse(self, op: Op, rule: str, value: object) -> ModelError:
        """Return the error for an operator."""
        return ModelError(f"{place_of(self.graph, op)} must have {rule} on the engine, not {value}")

    def root(self, tensor: str) -> str:
        """Return the tensor that has the map."""
        while tensor in self.alias:
            tensor = self.alias[tensor]
        return tensor

    def consumers(self, tensor: str) -> list[Op]:
        """Return the operators that read a tensor or another shape of it, reshapes left out."""
        found = []
        for op in self.ops:
            if tensor in op.inputs:
                found += self.consumers(op.output) if isinstance(op, Reshape) else [op]
        return found

    def find_maps(self) -> None:
        """Give every tensor a map; a reshape must leave the order of the map's codes alone."""
        graph = self.graph
        self.maps[graph.input] = canonical(graph.tensors[graph.input].shape)
        readers = [op for op in self.ops if graph.input in op.inputs]
        shapes = {canonical(graph.tensors[op.output].shape) for op in readers}
        if all(isinstance(op, Reshape) for op in readers) and len(shapes) == 1:
            self.maps[graph.input] = shapes.pop()
        for op in self.ops:
            own = canonical(graph.tensors[op.output].shape)
            if not isinstance(op, Reshape):
                self.maps[op.output] = own
                continue
            self.alias[op.output] = op.inputs[0]
            root = self.root(op.output)
            flat = all(isinstance(c, Dense) for c in self.consumers(op.output))
            if own != self.maps[root] and not flat:
                raise self.refuse(
                    op, f"the map's shape {self.maps[root]} or a fully connected layer behind it",
                    own,
                )  # fmt: skip

    def choose_sums(self) -> dict[str, tuple[Op, str]]:
        """Return, for an Add's output, the convolution that it ends and the tensor that is kept."""
        found: dict[str, tuple[Op, str]] = {}
        taken: set[str] = set()
        made = {op.output: place for place, op in enumerate(self.ops)}
        for op in self.ops:
            if not isinstance(op, Add):
                continue
            a, b = op.inputs
            candidates = sorted(
                ((a, b), (b, a)), key=lambda pair: made.get(pair[0], -1), reverse=True
            )
            for own, kept in candidates:
                last = next((o for o in self.ops if o.output == own), None)
                alone = own != kept and sum(own in o.inputs for o in self.ops) == 1
                if alone and isinstance(last, Conv2D) and own not in taken:
                    found[op.output] = last, kept
                    taken.add(own)
                    break
        return found

    def draft(self, op: Op) -> None:
        """Append the drafts of an operator."""
        if any(op is conv for conv, _ in self.sums.values()):
            return  # its Add makes it
        match op:
            case Conv2D() | Dense():
                self.drafts.append(self.convolution(op))
            case Pool(kind="max"):
                self.drafts.append(self.max_pool(op))
            case Pool():
                self.drafts.append(self.average_pool(op))
            case Mean():
                self.drafts.append(self.mean(op))
            case Rescale():
                self.drafts.append(self.rescale(op))
            case Add():
                self.add(op)
            case Concat():
                self.concat(op)
            case Pad():
                self.pad(op)
            case Reshape():
                pass
            case Softmax():
                raise self.refuse(op, "its place at the model's end", "another")
            case _:
                raise self.refuse(op, "a kind that maps to it", op.name)

    def rounding(self, op: Op, wide: bool = False) -> None:
        """Check that the engine rounds as an operator does."""
        needed = "single" if wide else self.graph.rounding
        if self.shape.rounding != needed:
            raise self.refuse(op, f"{needed} rounding", self.shape.rounding)

    def input_of(self, op: Op) -> tuple[str, tuple[int, int, int, int]]:
        """Return the tensor that an operator reads, and the padding in front of it."""
        name = op.inputs[0]
        return self.padded.get(name, (self.root(name), (0, 0, 0, 0)))

    def convolution(self, op: Conv2D | Dense) -> ConvDraft:
        """Return the draft of a convolution or dense layer."""
        needed = (isinstance(op, Dense) and op.rounding) or self.graph.rounding
        once = needed == "single" and self.shape.rounding == "double" and not op.wide
        if not once:
            self.rounding(op, op.wide or needed == "single")
        source, (top, left, _, _) = self.input_of(op)
        tensor, target = self.graph.tensors[op.inputs[0]], self.graph.tensors[op.output]
        height, width, _ = self.maps[op.output]
        if isinstance(op, Dense):
            weights = op.weights.reshape(-1, *self.maps[source])
            stride, dilation, groups, origin = (1, 1), (1, 1), 1, (0, 0)
        else:
            weights, stride, dilation, groups = op.weights, op.stride, op.dilation, op.groups
            origin = -(op.padding[0] + top), -(op.padding[1] + left)
        weights, bias, shift = self.narrowed(weights, op.bias, op.shift)
        sums = weights.reshape(len(weights), -1).sum(axis=1)
        return ConvDraft(
            name=op.output,
            source=source,
            output=op.output,
            size=(height, width),
            stride=stride,
            dilation=dilation,
            origin=origin,
            groups=groups,
            weights=weights,
            bias=bias - tensor.zero_point * sums,
            multiplier=_rounded_once(op.multiplier, shift) if once else op.multiplier,
            shift=np.maximum(shift, 0) if once else shift,
            zero_point=target.zero_point,
            low=op.low,
            high=op.high,
            fill=tensor.zero_point,
            macs=int(height * width * weights.size),
        )

    def narrowed(self, weights: Array, bias: Array, shift: Array) -> tuple[Array, Array, Array]:
        """Return weights that were shifted up for a finer bias as the engine can code them."""
        coding = self.shape.weight
        while isinstance(coding, Int) and not (weights & 1).any() and weights.any():
            if weights.min() >= coding.low and weights.max() <= coding.high:
                break
            weights, bias, shift = weights >> 1, np.rint(bias / 2).astype(np.int64), shift + 1
        return weights, bias, shift

    def same(
        self, op_output: str, source: str, kernel: tuple[int, int], weight: int, bias: int,
        factor: tuple[int, int], zero_point: int, low: int, high: int, fill: int, name: str,
    ) -> ConvDraft:  # fmt: skip
        """Return a depthwise draft with one weight, bias and factor for all."""
        height, width, channels = self.maps[op_output]
        each = np.ones(channels, np.int64)
        return ConvDraft(
            name=name,
            source=source,
            output=op_output,
            size=(height, width),
            groups=channels,
            weights=np.full((channels, *kernel, 1), weight),
            bias=bias * each,
            multiplier=factor[0] * each,
            shift=factor[1] * each,
            zero_point=zero_point,
            low=low,
            high=high,
            fill=fill,
        )

    def copy(
        self, source: str, purpose: str, padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    ) -> str:
        """Append a copy of a tensor, weights 2 and a factor of 1/2, and return its name."""
        root = self.root(source)
        name = f"{source} ({purpose})"
        while name in self.maps:
            name += "'"
        height, width, channels = self.maps[root]
        top, left, bottom, right = padding
        self.maps[name] = height + top + bottom, width + left + right, channels
        tensor = self.graph.tensors.get(source) or self.graph.tensors[root]
        # With one rounding or two, (2 · x) · 2^30 / 2^31 is x.
        draft = self.same(
            name, root, (1, 1), 2, 0, (1 << 30, 0), 0, tensor.integer.low, tensor.integer.high,
            tensor.zero_point, name,
        )  # fmt: skip
        draft.origin = -top, -left
        self.drafts.append(draft)
        return name

    def max_pool(self, op: Pool) -> PoolDraft:
        """Return the draft of a maximum pool."""
        height, width, _ = self.maps[op.output]
        return PoolDraft(
            name=op.output,
            source=self.input_of(op)[0],
            output=op.output,
            size=(height, width),
            stride=op.stride,
            origin=(-op.padding[0], -op.padding[1]),
            kernel=op.kernel,
            low=op.low,
            high=op.high,
        )

    def average_pool(self, op: Pool) -> ConvDraft:
        """Return the draft of an average pool: weights of one size, the count in the factor."""
        if any(op.padding):
            raise self.refuse(op, "no padding", f"{op.padding}; use a pool without, or pad before")
        source, (top, left, _, _) = self.input_of(op)
        tensor = self.graph.tensors[op.inputs[0]]
        count = op.kernel[0] * op.kernel[1]
        found = _average(count, tensor.integer, self.shape)
        if found is None:
            raise self.refuse(op, "a window that a rounded factor averages exactly", op.kernel)
        weight, factor = found
        draft = self.same(
            op.output, source, op.kernel, weight, 0, factor, 0, op.low, op.high,
            tensor.zero_point, op.output,
        )  # fmt: skip
        draft.stride, draft.origin = op.stride, (-top, -left)
        draft.macs = int(np.prod(draft.size)) * draft.weights.size
        if op.kernel == self.maps[source][:2]:
            _fill_windows(draft)
        return draft

    def mean(self, op: Mean) -> ConvDraft:
        """Return the draft of a mean over the whole map."""
        self.rounding(op)
        source = self.root(op.inputs[0])
        tensor, target = self.graph.tensors[op.inputs[0]], self.graph.tensors[op.output]
        height, width, _ = self.maps[source]
        weight, shift = 1 << max(0, op.shift), min(op.shift, 0)
        bias = -tensor.zero_point * height * width * weight
        draft = self.same(
            op.output, source, (height, width), weight, bias, (op.multiplier, shift),
            target.zero_point, target.integer.low, target.integer.high, tensor.zero_point,
            op.output,
        )  # fmt: skip
        draft.macs = draft.weights.size
        _fill_windows(draft)
        return draft

    def rescale(self, op: Rescale) -> ConvDraft:
        """Return the draft of a lone ReLU or QUANTIZE."""
        self.rounding(op)
        tensor, target = self.graph.tensors[op.inputs[0]], self.graph.tensors[op.output]
        weight, shift = 1 << max(0, op.shift), min(op.shift, 0)
        return self.same(
            op.output, self.root(op.inputs[0]), (1, 1), weight, -tensor.zero_point * weight,
            (op.multiplier, shift), target.zero_point, op.low, op.high, tensor.zero_point,
            op.output,
        )  # fmt: skip

    def add(self, op: Add) -> None:
        """Append the convolution that a sum ends, or a copy of one term that it ends."""
        self.rounding(op)
        if self.shape.act.bits > 8:
            raise self.refuse(op, "activations of at most 8 bits", self.shape.act.bits)
        if op.output in self.sums:
            conv, kept = self.sums[op.output]
            assert isinstance(conv, Conv2D)
            own, draft = conv.output, self.convolution(conv)
        else:
            own, kept = op.inputs[1], op.inputs[0]
            self.copy(own, "term")
            draft = self.drafts.pop()
            assert isinstance(draft, ConvDraft)
        order = (1, 0) if op.inputs[0] == kept and op.inputs[1] == own else (0, 1)
        root = self.root(kept)
        maker = next((d for d in self.drafts if d.output == root), None)
        if not isinstance(maker, ConvDraft) or self.maps[root] != self.maps[op.output]:
            root = self.copy(root, "kept")
            maker = self.drafts[-1]
            assert isinstance(maker, ConvDraft)
        maker.keep = True
        draft.add = AddDraft(
            kept=root,
            op=op,
            own_factor=op.factors[order[0]],
            own_zero_point=self.graph.tensors[own].zero_point,
            kept_factor=op.factors[order[1]],
        )
        draft.name = draft.output = op.output
        self.drafts.append(draft)

    def pad(self, op: Pad) -> None:
        """Let the operators behind take the padding, or make a padded copy."""
        source, before = self.input_of(op)
        readers = [o for o in self.ops if op.output in o.inputs]
        padding = tuple(a + b for a, b in zip(before, op.padding, strict=True))
        if (
            all(
                isinstance(o, Conv2D | Pad) or (isinstance(o, Pool) and o.kind == "average")
                for o in readers
            )
            and op.output != self.graph.output
        ):
            self.padded[op.output] = source, padding  # type: ignore[assignment]
        else:
            self.alias[op.output] = self.copy(source, f"padded for {op.output}", padding)  # type: ignore[arg-type]

    def concat(self, op: Concat) -> None:
        """Give the parts a common place."""
        parts = []
        for given in op.inputs:
            part = self.root(given)
            made = any(d.output == part for d in self.drafts) or part in self.positions
            if not made or part in self.home or part in parts:
                part = self.copy(part, f"for {op.output}")
            parts.append(part)
        first, places = 0, []
        for part in parts:
            self.home[part] = op.output, first
            own = self.places(part)
            places.append(first * self.shape.slice_channels + own)
            first += self.shape.slices(int(own[-1]) + 1)
        self.positions[op.output] = np.concatenate(places)

    def places(self, tensor: str) -> Array:
        """Return where each channel lies among those of the tensor's slices."""
        if tensor in self.positions:
            return self.positions[tensor]
        draft = next((d for d in self.drafts if d.output == tensor), None)
        if isinstance(draft, PoolDraft):
            return self.places(draft.source)
        return np.arange(self.maps[tensor][2])

    def plain(self, tensor: str) -> bool:
        """Tell whether a tensor's channels lie without gaps."""
        own = self.places(tensor)
        return int(own[-1]) == len(own) - 1

    # Drafts to layers

    def placed(self, end: str) -> Program:
        """Plan the memories and return the Program."""
        graph, shape = self.graph, self.shape
        start = graph.input
        mapped = {start: -1}
        kept: dict[str, int] = {}
        last: dict[str, int] = {}
        kept_until: dict[str, int] = {}
        for step, draft in enumerate(self.drafts):
            mapped[draft.output] = step
            last[self.storage(draft.source)[0]] = step
            if isinstance(draft, ConvDraft):
                if draft.keep:
                    kept[draft.output] = step
                if draft.add:
                    kept_until[draft.add.kept] = step
        wanted = {d.source for d in self.drafts} | {end}
        wanted |= {part for part in self.home if part in mapped}
        last[self.storage(end)[0]] = len(self.drafts)
        blocks: dict[str, list[int]] = {}
        for tensor, step in mapped.items():
            if tensor in wanted:
                blocks.setdefault(self.storage(tensor)[0], []).append(step)
        sizes = {name: self.words(name) for name in blocks}
        buffers = [
            Buffer(name, sizes[name], min(steps), max(last.get(name, 0), *steps))
            for name, steps in blocks.items()
        ]
        addresses = self.fit("map memory words a bank", buffers, shape.map_words)
        each = shape.outputs // shape.scalers
        keeps = self.fit(
            "residual memory words",
            [
                Buffer(
                    name,
                    shape.groups(self.maps[name][2]) * int(np.prod(self.maps[name][:2])) * each,
                    step,
                    kept_until[name],
                )
                for name, step in kept.items()
            ],
            shape.keep_words,
        )

        def feature_map(tensor: str) -> FeatureMap | None:
            if tensor not in wanted:
                return None
            name, first = self.storage(tensor)
            height, width, _ = self.maps[tensor]
            channels = int(self.places(tensor)[-1]) + 1
            return FeatureMap(
                height=height, width=width, channels=channels, address=addresses[name],
                pitch=sizes[name] // self.cells(tensor), first=first,
            )  # fmt: skip

        layers = []
        for draft in self.drafts:
            source, target = feature_map(draft.source), feature_map(draft.output)
            assert source is not None
            if isinstance(draft, ConvDraft):
                layers.append(self.conv_layer(draft, source, target, keeps))
            elif isinstance(draft, PoolDraft):
                assert target is not None
                layers.append(self.pool_layer(draft, source, target))
        ends = feature_map(start), feature_map(end)
        if ends[0] is None:
            raise ModelError("model must use its input, not ignore it")
        assert ends[1] is not None
        tensors = graph.tensors
        before = next((op.inputs[0] for op in graph.ops if isinstance(op, Softmax)), graph.output)
        coded = tensors[before]
        program = Program(
            name=graph.name,
            shape=shape,
            layers=tuple(layers),
            input=ends[0],
            output=ends[1],
            input_shape=tensors[start].shape,
            output_shape=tensors[graph.output].shape,
            input_coding=Coding(tensors[start].zero_point, tensors[start].scale),
            output_coding=Coding(coded.zero_point, coded.scale),
            softmax=self.softmax,
        )
        program.check_runs_on(shape)
        return program

    def storage(self, tensor: str) -> tuple[str, int]:
        """Return the block of memory that a tensor is in, and its first slice there."""
        first = 0
        while tensor in self.home:
            tensor, own = self.home[tensor]
            first += own
        return tensor, first

    def cells(self, tensor: str) -> int:
        """Return the cells of a tensor's map."""
        height, width, _ = self.maps[tensor]
        return -(-height // 3) * -(-width // 3)

    def words(self, block: str) -> int:
        """Return the words of a block in each bank."""
        return self.cells(block) * self.shape.slices(int(self.places(block)[-1]) + 1)

    def fit(self, what: str, buffers: list[Buffer], limit: int) -> dict[str, int]:
        """Plan a memory, or say which layer does not fit."""
        if not buffers:
            return {}
        addresses, words = memory_plan.plan(buffers)
        if words > limit:
            step = max(memory_plan.peak(buffers), 0)
            own = max(memory_plan.need(buffers, step), words if step < 0 else 0)
            need = own if own > limit else words
            name = self.drafts[min(step, len(self.drafts) - 1)].name
            raise ModelError(f"layer {name!r} needs {need} {what}, but the engine has {limit}")
        return {b.name: address for b, address in zip(buffers, addresses, strict=True)}

    def pool_layer(self, d: PoolDraft, source: FeatureMap, target: FeatureMap) -> MaxPool:
        """Return the layer of a maximum pool; sub-windows of larger ones overlap."""
        stride = _used_stride(d)
        offsets = [sorted({min(at, max(k - 3, 0)) for at in range(0, k, 3)}) for k in d.kernel]
        return MaxPool(
            name=d.name,
            source=source,
            target=target,
            rows=min(d.kernel[0], 3),
            columns=min(d.kernel[1], 3),
            stride_y=stride[0],
            stride_x=stride[1],
            origin_y=d.origin[0],
            origin_x=d.origin[1],
            windows=tuple((y, x) for y in offsets[0] for x in offsets[1]),
            low=d.low,
            high=d.high,
        )

    def conv_layer(
        self, d: ConvDraft, source: FeatureMap, target: FeatureMap | None, keeps: dict[str, int]
    ) -> Conv:
        """Return the layer of a convolution."""
        shape, stride = self.shape, _used_stride(d)
        self.check_sums(d)
        tiling = Tiling.of(d.weights, d.groups, d.dilation, self.places(d.source), shape)
        residual = None
        if d.add is not None:
            residual = self.residual(d.name, d.add, keeps[d.add.kept])
        return Conv(
            name=d.name,
            source=source,
            target=target,
            height=d.size[0],
            width=d.size[1],
            channels=len(d.weights),
            mode=tiling.mode,
            stride_y=stride[0],
            stride_x=stride[1],
            origin_y=d.origin[0],
            origin_x=d.origin[1],
            windows=tiling.windows,
            slice_step=tiling.slice_step,
            slices=tiling.slices,
            fill=d.fill,
            weights=tiling.weights,
            requantize=Requantize(
                bias=d.bias, multiplier=d.multiplier, shift=d.shift,
                zero_point=d.zero_point, low=d.low, high=d.high,
            ),
            residual=residual,
            keep=keeps[d.output] if d.keep else None,
            macs=d.macs,
        )  # fmt: skip

    def residual(self, name: str, add: "AddDraft", address: int) -> Residual:
        """Return the sum at a layer's end.

        Raises
        ------
        ModelError
            There are no tables for it.
        """
        op, tensors = add.op, self.graph.tensors
        a, b = op.inputs
        kept = b if add.kept_factor is op.factors[1] else a
        values = self.shape.act.decode(np.arange(1 << self.shape.act.bits, dtype=np.uint64))
        terms = [
            add_term(values, zero_point, op.left_shift, factor, self.graph.rounding)
            for zero_point, factor in (
                (add.own_zero_point, add.own_factor),
                (tensors[kept].zero_point, add.kept_factor),
            )
        ]
        found = tables(
            *terms, op.factors[2], tensors[op.output].zero_point, op.low, op.high,
            rounding=self.graph.rounding,
        )  # fmt: skip
        if found is None:
            raise ModelError(
                f"layer {name!r} adds with factors for which there are no exact tables"
            )
        own, other, fraction = found
        return Residual(
            address=address, own=own, kept=other, fraction=fraction, low=op.low, high=op.high
        )

    def check_sums(self, d: ConvDraft) -> None:
        """Check that weights, shifts and sums are the engine's."""
        shape = self.shape
        try:
            shape.weight.encode(d.weights)
        except ValueError as error:
            raise ModelError(
                f"layer {d.name!r} must have weights that the engine codes: {error}"
            ) from None
        largest = int(d.shift.max())
        if largest > shape.left_shift:
            raise ModelError(
                f"layer {d.name!r} needs a left shift of {largest}, "
                f"but the engine has {shape.left_shift}"
            )
        low, high = shape.act.low, shape.act.high
        flat = d.weights.reshape(len(d.weights), -1)
        ends = np.stack([flat * low, flat * high])
        least, most = ends.min(axis=0).sum(axis=1) + d.bias, ends.max(axis=0).sum(axis=1) + d.bias
        bits = max(int(v).bit_length() + 1 for v in (most.max(), ~least.min(), 0))
        if bits > shape.acc_bits:
            raise ModelError(
                f"layer {d.name!r} needs accumulators of {bits} bits, "
                f"but the engine has {shape.acc_bits}"
            )
        groups = shape.groups(len(d.weights)) * shape.outputs
        if groups > shape.channels:
            raise ModelError(
                f"layer {d.name!r} needs parameters for {groups} channels, "
                f"but the engine has {shape.channels}"
            )


def _used_stride(d: Draft) -> tuple[int, int]:
    """Return a layer's stride, 1 where there is no second place to go to.

    A pool over a whole map says the map's size, which may be more than the engine can step.
    """
    y, x = (step if size > 1 else 1 for step, size in zip(d.stride, d.size, strict=True))
    return y, x


def _rounded_once(multiplier: Array, shift: Array) -> Array:
    """Return multipliers with which an engine that rounds twice rounds once.

    Without a shift to the right only the product is rounded. The multiplier has the shift in it
    and so fewer bits: for a shift of r it is off by 2^(r - 32) at most, which moves the edges
    between two outputs by less than 2^-8 of an accumulator's step up to r = 8.
    """
    right = np.maximum(-shift, 0)
    return (multiplier + ((np.int64(1) << right) >> 1)) >> right


def _fill_windows(draft: ConvDraft) -> None:
    """Let the kernel of a sum over a whole map grow to whole windows, which then are all alike.

    What it reads outside of the map is 0, and weights that do not change are not loaded again.
    """
    more = [-size % WINDOW if size > WINDOW else 0 for size in draft.weights.shape[1:3]]
    draft.weights = np.pad(draft.weights, ((0, 0), (0, more[0]), (0, more[1]), (0, 0)), "edge")
    draft.fill = 0


def _average(count: int, integer: Int, shape: EngineShape) -> tuple[int, tuple[int, int]] | None:
    """Return a weight and a factor that average so many activations as TFLite does it.

    Every sum that can be is tried; larger weights keep the first of two roundings from mattering.
    """
    totals = np.arange(integer.low * count, integer.high * count + 1)
    wanted = divided(totals, count)
    for place in range(8):
        weight = 1 << place
        try:
            shape.weight.encode(np.array([weight]))
        except ValueError:
            return None
        if (int(np.abs(totals).max()) * weight).bit_length() >= shape.acc_bits:
            return None
        for more in (1, 0):
            bits = 30 + (count * weight - 1).bit_length()
            multiplier = (1 << bits) // (count * weight) + more
            factor = multiplier, 31 - bits
            while factor[0] >= 1 << 31:
                factor = factor[0] >> 1, factor[1] + 1
            if factor[1] > shape.left_shift:
                continue
            found = multiply_by_quantized_multiplier(totals * weight, *factor, shape.rounding)
            if (found == wanted).all():
                return weight, factor
    return None


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """A convolution's weights in the engine's order; members as of `Conv`."""

    mode: str
    windows: tuple[tuple[int, int], ...]
    slice_step: int
    slices: int
    weights: Array

    @classmethod
    def of(
        cls, weights: Array, groups: int, dilation: tuple[int, int], positions: Array,
        shape: EngineShape,
    ) -> "Tiling":  # fmt: skip
        """Choose the mode with fewer beats and put the weights in order.

        Parameters
        ----------
        weights
            (outputs, height, width, inputs / groups).
        positions
            (inputs,), where each input channel lies.
        """
        C, wide = shape.slice_channels, shape.outputs
        outputs, *kernel, inner = weights.shape
        each = outputs // groups
        slices, step = shape.slices(int(positions[-1]) + 1), 0
        plain = bool((positions == np.arange(len(positions))).all())
        if groups > 1 and plain and wide % each == 0 and (wide // each * inner) % C == 0:
            # Outputs of one group read input channels of their own.
            step = wide // each * inner // C
            slices = min(slices, step)
        windows = list(_spans(kernel[0], dilation[0])), list(_spans(kernel[1], dilation[1]))
        points = list(_points(kernel[0], dilation[0])), list(_points(kernel[1], dilation[1]))
        beats = len(windows[0]) * len(windows[1]) * slices
        per_point = -(-slices // TAPS)
        if kernel[0] * kernel[1] * per_point < beats:
            mode, spans, per_window = "point", points, per_point
        else:
            mode, spans, per_window = "window", windows, slices
        offsets = tuple((y, x) for y, _ in spans[0] for x, _ in spans[1])
        tiles = np.zeros(
            (shape.groups(outputs), len(offsets) * per_window, shape.lanes, wide), np.int64
        )
        o = np.arange(outputs)[:, None]
        place = positions[(o // each) * inner + np.arange(inner)]
        s = place // C - o // wide * step
        for index, (rows, columns) in enumerate(
            (rows, columns) for _, rows in spans[0] for _, columns in spans[1]
        ):
            for dy, ky in rows:
                for dx, kx in columns:
                    if mode == "window":
                        beat, lane = s, (3 * dy + dx) * C + place % C
                    else:
                        beat, lane = s // TAPS, s % TAPS * C + place % C
                    tiles[o // wide, index * per_window + beat, lane, o % wide] = weights[:, ky, kx]
        return cls(mode=mode, windows=offsets, slice_step=step, slices=slices, weights=tiles)


def _spans(size: int, dilation: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield (offset of a sub-window, [(its row, the kernel's row)]) along one axis."""
    if dilation != 1:
        yield from _points(size, dilation)
        return
    for first in range(0, size, 3):
        yield first, [(k - first, k) for k in range(first, min(first + 3, size))]


def _points(size: int, dilation: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield the same for sub-windows of one row."""
    for k in range(size):
        yield k * dilation, [(0, k)]


def with_engine(program: Program, shape: EngineShape) -> Program:
    """Return a program as seen by another engine that runs it."""
    program.check_runs_on(shape)
    return replace(program, shape=shape)
