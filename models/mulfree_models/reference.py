"""What a graph computes, in integers: TFLite's reference kernels bit for bit.

Sources: ``tensorflow/lite/kernels/internal/reference/integer_ops/{conv,depthwise_conv,
fully_connected,add,pooling,mean}.h`` and ``MultiplyByQuantizedMultiplier`` in ``common.h``.

Sums of products are made in float64, which is exact: with 16-bit activations and 8-bit weights a
sum of 2^29 products stays below 2^53.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
from mulfree_sim.golden.requantizer import multiply_by_quantized_multiplier
from mulfree_sim.golden.softmax import softmax

Array = NDArray[np.int64]


def scaled(op: Conv2D | Dense, acc: Array, rounding: str) -> Array:
    """Return accumulators, bias included, times the factor of their channel."""
    if op.wide:
        return multiply_by_quantized_multiplier(acc, op.multiplier >> 16, op.shift, bits=15)
    return multiply_by_quantized_multiplier(acc, op.multiplier, op.shift, rounding)


def windows(
    x: Array, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int],
    padding: tuple[int, int, int, int], fill: int,
) -> Array:  # fmt: skip
    """Return the windows of maps (n, h, w, c), shape (n, rows, columns, c, ky, kx)."""
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padded.shape[1] < span[0] or padded.shape[2] < span[1]:
        raise ModelError(f"kernel must fit the padded map {padded.shape[1:3]}, not {kernel}")
    view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]


def _conv(graph: Graph, op: Conv2D, x: Array) -> Array:
    source, target = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    found = windows(
        x - source.zero_point, op.weights.shape[1:3], op.stride, op.dilation, op.padding, 0
    )
    n, rows, columns = found.shape[:3]
    each = op.weights.shape[0] // op.groups
    patches = found.reshape(n * rows * columns, op.groups, -1).astype(np.float64)
    kernel = op.weights.transpose(0, 3, 1, 2).reshape(op.groups, each, -1).astype(np.float64)
    sums = np.matmul(patches.transpose(1, 0, 2), kernel.transpose(0, 2, 1))
    acc = sums.transpose(1, 0, 2).reshape(n, rows, columns, -1).astype(np.int64) + op.bias
    out = scaled(op, acc, graph.rounding)
    return np.clip(out + target.zero_point, op.low, op.high)


def _dense(graph: Graph, op: Dense, x: Array) -> Array:
    source, target = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    flat = (x - source.zero_point).reshape(len(x), -1).astype(np.float64)
    acc = (flat @ op.weights.T.astype(np.float64)).astype(np.int64) + op.bias
    out = scaled(op, acc, op.rounding or graph.rounding)
    out = np.clip(out + target.zero_point, op.low, op.high)
    return out.reshape(len(x), *target.shape)


def add_term(
    values: ArrayLike, zero_point: int, left_shift: int, factor: tuple[int, int], rounding: str
) -> Array:
    """Return what a value adds to the sum of an ADD."""
    shifted = (np.asarray(values, np.int64) - zero_point) << left_shift
    return multiply_by_quantized_multiplier(shifted, *factor, rounding)


def _add(graph: Graph, op: Add, a: Array, b: Array) -> Array:
    target = graph.tensors[op.output]
    total = sum(
        add_term(x, graph.tensors[name].zero_point, op.left_shift, factor, graph.rounding)
        for x, name, factor in zip((a, b), op.inputs, op.factors, strict=False)
    )
    out = multiply_by_quantized_multiplier(total, *op.factors[2], graph.rounding)
    return np.clip(out + target.zero_point, op.low, op.high)


def divided(total: ArrayLike, count: ArrayLike) -> Array:
    """Return ``total / count`` to nearest, ties away from zero, as the average pool has it."""
    total, count = np.asarray(total, np.int64), np.asarray(count, np.int64)
    return np.sign(total) * ((np.abs(total) + count // 2) // count)


def _pool(graph: Graph, op: Pool, x: Array) -> Array:
    integer = graph.tensors[op.output].integer
    fill = integer.low if op.kind == "max" else 0
    found = windows(x, op.kernel, op.stride, (1, 1), op.padding, fill)
    if op.kind == "max":
        return np.clip(found.max(axis=(4, 5)), op.low, op.high)
    one = np.ones((1, *x.shape[1:3], 1), np.int64)
    count = windows(one, op.kernel, op.stride, (1, 1), op.padding, 0).sum(axis=(4, 5))
    return np.clip(divided(found.sum(axis=(4, 5)), count), op.low, op.high)


def _mean(graph: Graph, op: Mean, x: Array) -> Array:
    source, target = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    total = (x - source.zero_point).sum(axis=(1, 2))
    out = multiply_by_quantized_multiplier(total, op.multiplier, op.shift, graph.rounding)
    integer = target.integer
    return np.clip(out + target.zero_point, integer.low, integer.high).reshape(-1, *target.shape)


def _rescale(graph: Graph, op: Rescale, x: Array) -> Array:
    source, target = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    out = multiply_by_quantized_multiplier(
        x - source.zero_point, op.multiplier, op.shift, graph.rounding
    )
    return np.clip(out + target.zero_point, op.low, op.high)


def compute(graph: Graph, op: Op, args: list[Array]) -> Array:
    """Return what an operator makes of its inputs, codes of shape (n, …)."""
    tensor = graph.tensors[op.output]
    match op:
        case Conv2D():
            return _conv(graph, op, args[0])
        case Dense():
            return _dense(graph, op, args[0])
        case Add():
            return _add(graph, op, args[0], args[1])
        case Pool():
            return _pool(graph, op, args[0])
        case Mean():
            return _mean(graph, op, args[0])
        case Rescale():
            return _rescale(graph, op, args[0])
        case Concat():
            return np.concatenate(args, axis=-1)
        case Reshape():
            return args[0].reshape(-1, *tensor.shape)
        case Pad():
            top, left, bottom, right = op.padding
            space = ((0, 0), (top, bottom), (left, right), (0, 0))
            return np.pad(args[0], space, constant_values=tensor.zero_point)
        case Softmax():
            return softmax(args[0], graph.tensors[op.inputs[0]].scale, op.beta)
    raise ModelError(f"{place_of(graph, op)} must be an operator with a reference, not {op.name}")


def activations(graph: Graph, codes: ArrayLike) -> Iterator[tuple[Op, Array]]:
    """Yield each operator with its output codes, in order.

    Parameters
    ----------
    codes
        Inputs, shape (n, …) of the graph's input tensor.

    Raises
    ------
    ModelError
        The inputs have another shape.
    ValueError
        They are out of range.
    """
    tensor = graph.tensors[graph.input]
    values = tensor.integer.check(codes, "input")
    if values.ndim == len(tensor.shape) or values.shape[1:] != tensor.shape:
        raise ModelError(f"input must have shape (n, {tensor.shape}), not {values.shape}")
    known = {graph.input: values}
    last = {name: op for op in graph.ops for name in op.inputs}
    for op in graph.ops:
        out = compute(graph, op, [known[name] for name in op.inputs])
        if out.shape[1:] != graph.tensors[op.output].shape:
            raise ModelError(
                f"{place_of(graph, op)} must make shape {graph.tensors[op.output].shape}, "
                f"not {out.shape[1:]}"
            )
        known[op.output] = out
        for name in op.inputs:
            if last[name] is op:
                known.pop(name, None)
        yield op, out


def run(graph: Graph, codes: ArrayLike) -> Array:
    """Return the output codes of a graph, shape (n, …)."""
    return next(out for op, out in activations(graph, codes) if op.output == graph.output)
