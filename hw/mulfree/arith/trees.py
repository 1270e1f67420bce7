"""Sums of weighted terms by a balanced tree of two-operand adders.

Every adder is as narrow as the ranges of its operands allow, and bits below the higher operand's
shift pass by it. On an FPGA each adder becomes one carry chain.
"""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, signed, unsigned


class Term(NamedTuple):
    """One summand, ``±value · 2^shift``.

    Members
    -------
    value
        Any Amaranth value; its shape says whether it is two's complement.
    shift
        Weight of the value's bit 0, as a power of two; 0 or more.
    negate
        The term is subtracted.
    bounds
        Smallest and largest that `value` can be, where that is narrower than its shape.
    """

    value: Any
    shift: int = 0
    negate: bool = False
    bounds: tuple[int, int] | None = None

    def range(self) -> tuple[int, int]:
        """Return the smallest and the largest summand."""
        low, high = _bounds(Value.cast(self.value), self.bounds)
        ends = (-low << self.shift, -high << self.shift)
        return (ends[1], ends[0]) if self.negate else (low << self.shift, high << self.shift)


class Sum(NamedTuple):
    """What `add_tree` built.

    Members
    -------
    value
        The sum, in the narrowest shape that holds `bounds`.
    ranks
        Register ranks between the terms and the sum.
    bounds
        Smallest and largest sum.
    """

    value: Value
    ranks: int
    bounds: tuple[int, int]


class _Node(NamedTuple):
    value: Value
    shift: int
    negate: bool
    bounds: tuple[int, int]


def shape_for(bounds: tuple[int, int]) -> Shape:
    """Return the narrowest shape for integers from ``bounds[0]`` to ``bounds[1]``."""
    low, high = bounds
    if low >= 0:
        return unsigned(high.bit_length())
    return signed(max((~low).bit_length(), high.bit_length() if high > 0 else 0) + 1)


def levels(count: int) -> int:
    """Return the adders in a row from a term to the sum of `count` terms."""
    return max(count - 1, 0).bit_length()


def spread(depth: int, ranks: int) -> tuple[int, ...]:
    """Return `ranks` of the levels 1…`depth` for registers, evenly spaced and the last among them.

    Raises
    ------
    ValueError
        There are more ranks than levels.
    """
    if not 0 <= ranks <= depth:
        raise ValueError(f"ranks must be between 0 and {depth}, not {ranks}")
    return tuple(-(-depth * (rank + 1) // ranks) for rank in range(ranks))


def add_tree(
    m: Module,
    terms: Iterable[Term],
    *,
    registers: Collection[int] = (),
    enable: Any = None,
    name: str = "sum",
    as_given: bool = False,
) -> Sum:
    """Return the sum of the terms.

    Parameters
    ----------
    registers
        Levels that end in a rank of registers: 0 registers the terms themselves, n the results of
        the n-th rank of adders, up to ``levels(number of terms)``. Every listed rank exists even
        where terms turn out to be constant: the latency follows from the number of terms alone.
    enable
        The registers take their inputs on clock edges where this is 1; on every edge when None.
    name
        Prefix of the signals in the Verilog.
    as_given
        Neighbours among the terms are added, not neighbours in weight.

    Raises
    ------
    ValueError
        A level to register does not exist.
    """
    terms = list(terms)
    depth = levels(len(terms))
    for level in registers:
        if not 0 <= level <= depth:
            raise ValueError(f"registers must be levels between 0 and {depth}, not {level}")
    nodes = [_node(m, term, f"{name}_in_{i}") for i, term in enumerate(terms)]
    nodes = [n for n in nodes if n.bounds != (0, 0)]
    if not as_given:  # neighbours in weight overlap most, so their sums stay narrow
        nodes.sort(key=lambda n: n.shift)
    for level in range(depth + 1):
        if level:
            pairs = zip(nodes[::2], nodes[1::2], strict=False)
            pairs = (sorted(pair, key=lambda n: n.shift) for pair in pairs)
            added = [_add(m, *pair, f"{name}_{level}_{i}") for i, pair in enumerate(pairs)]
            nodes = added + nodes[len(added) * 2 :]
        if level in registers:
            nodes = [
                node._replace(value=_hold(m, node.value, enable, f"{name}_{level}_{i}_q"))
                for i, node in enumerate(nodes)
            ]
    value, bounds = _finish(nodes[0]) if nodes else (Const(0, 0), (0, 0))
    return Sum(value, len(set(registers)), bounds)


def _bounds(value: Value, bounds: tuple[int, int] | None) -> tuple[int, int]:
    """Return the range of a value: what is known of it, or all that its shape holds."""
    if isinstance(value, Const):
        return value.value, value.value
    shape = value.shape()
    if shape.signed:
        whole = -(1 << (shape.width - 1)), (1 << (shape.width - 1)) - 1
    else:
        whole = 0, (1 << shape.width) - 1
    return whole if bounds is None else bounds


def named(m: Module, value: Any, name: str) -> Any:
    """Return a signal of the value: an expression used twice would be built twice."""
    value = Value.cast(value)
    if isinstance(value, Signal | Const):
        return value
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def delay(m: Module, value: Any, ranks: int, enable: Any, name: str) -> Any:
    """Return the value behind `ranks` registers."""
    for rank in range(ranks):
        value = _hold(m, value, enable, f"{name}_{rank}")
    return value


def _node(m: Module, term: Term, name: str) -> _Node:
    value = named(m, term.value, name)
    bounds = _bounds(value, term.bounds)
    return _Node(_fit(value, bounds), term.shift, term.negate, bounds)


def _fit(value: Any, bounds: tuple[int, int]) -> Any:
    """Return the value in the narrowest shape that its bounds need."""
    shape = shape_for(bounds)
    if value.shape() == shape:
        return value
    low = value[: shape.width]
    return low.as_signed() if shape.signed else low


def _add(m: Module, a: _Node, b: _Node, name: str) -> _Node:
    """Return ``±(a ± b · 2^gap)``; `b` has the higher weight, bits of `a` below it pass by."""
    if a.shift == b.shift and a.negate and not b.negate:
        a, b = b, a  # a positive sum saves the negation at the end
    gap = b.shift - a.shift
    high = a.value >> gap
    total = high + b.value if a.negate == b.negate else high - b.value
    ends = b.bounds if a.negate == b.negate else (-b.bounds[1], -b.bounds[0])
    top = (a.bounds[0] >> gap) + ends[0], (a.bounds[1] >> gap) + ends[1]
    result = Signal(shape_for(top), name=name)
    m.d.comb += result.eq(total)
    bounds = a.bounds[0] + (ends[0] << gap), a.bounds[1] + (ends[1] << gap)
    if gap == 0:
        return _Node(result, a.shift, a.negate, bounds)
    # A short operand's missing low bits are its sign.
    passed = Cat(a.value[i] if i < len(a.value) else _sign(a.value) for i in range(gap))
    joined = Cat(passed, result)
    joined = joined.as_signed() if result.shape().signed else joined
    return _Node(_fit(joined, bounds), a.shift, a.negate, bounds)


def _sign(value: Value) -> Any:
    return value[-1] if value.shape().signed else Const(0, 1)


def _hold(m: Module, value: Value, enable: Any, name: str) -> Signal:
    # Data without meaning after reset needs no reset net.
    held = Signal(value.shape(), name=name, reset_less=True)
    if enable is None:
        m.d.sync += held.eq(value)
    else:
        with m.If(enable):
            m.d.sync += held.eq(value)
    return held


def _finish(node: _Node) -> tuple[Any, tuple[int, int]]:
    """Return the last node as a value of shift 0, with its bounds."""
    value, (low, high) = node.value, node.bounds
    if node.negate:
        low, high = -high, -low
        value = _fit(-value, (low, high))
    if node.shift:
        shifted = Cat(Const(0, node.shift), value)
        value = shifted.as_signed() if value.shape().signed else shifted
    return value, (low << node.shift, high << node.shift)
