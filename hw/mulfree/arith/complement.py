"""Sums of one's complements: the ones that make them negatives enter as carries of the adders.

An adder has one carry to give away, ``({a, 1} + {b, s}) >> 1``, so n summands leave one sign over,
which an increment behind the last adder takes.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed

from mulfree.arith.trees import delay, levels


class Complement(NamedTuple):
    """A summand ``value + sign``."""

    value: Value
    sign: Value


def add_complement_tree(
    m: Module,
    terms: list[Complement],
    width: int,
    *,
    registers: Collection[int],
    enable: Value,
    name: str,
) -> Value:
    """Return the sum of equally wide signed terms, added in pairs.

    Parameters
    ----------
    width
        Of the sum; as much as it needs.
    registers
        Levels that end in a rank of registers: 1 … max(1, levels(number of terms)).
    """
    nodes, part = terms, len(terms[0].value)
    depth = max(1, levels(len(terms)))
    for level in range(1, depth + 1):
        joined = []
        for i in range(0, len(nodes), 2):
            stem = f"{name}_{level}_{i // 2}"
            if level == depth:
                node = Complement(_finish(m, nodes, width, stem), Const(0, 1))
            elif i + 1 == len(nodes):
                node = nodes[i]
            else:
                a, b = nodes[i : i + 2]
                total = _add(m, a.value, b.value, b.sign, part + level, stem)
                node = Complement(total, a.sign)
            if level in registers:
                node = Complement(
                    delay(m, node.value, 1, enable, f"{stem}_q"),
                    delay(m, node.sign, int(level < depth), enable, f"{stem}_sign"),
                )
            joined.append(node)
        nodes = joined
    return nodes[0].value


def add_complement_chain(
    m: Module,
    term: Callable[[int, int], Complement],
    count: int,
    width: int,
    *,
    registers: Collection[int],
    enable: Value,
    name: str,
) -> Value:
    """Return the sum of terms, added one after the other as ``a - ~b``.

    A Xilinx look-up table that adds has inputs to spare for making its second operand; Yosys keeps
    it there when it is subtracted.

    Parameters
    ----------
    term
        Called with the term's index and the ranks of registers before its adder; returns the term
        as late as that.
    registers
        Numbers of terms after whose addition a rank of registers follows.
    """
    first = term(0, 0)
    total, part = first.value, len(first.value)
    ranks = 0
    if count > 1 and 1 in registers:
        total = delay(m, total, 1, enable, f"{name}_0_q")
        ranks += 1
    for i in range(1, count):
        nxt = term(i, ranks)
        stem = f"{name}_{i}"
        if i == count - 1:
            # The first term's sign is as late as the last one's.
            late = Complement(total, term(0, ranks).sign)
            total = _finish(m, [late, nxt], width, stem, subtract=True)
        else:
            bits = part + i.bit_length()
            total = _add(m, total, nxt.value, nxt.sign, bits, stem, subtract=True)
        if i + 1 in registers:
            total = delay(m, total, 1, enable, f"{stem}_q")
            ranks += 1
    if count == 1:
        total = _finish(m, [first], width, name)
        total = delay(m, total, len(registers), enable, f"{name}_q")
    return total


def _finish(
    m: Module, nodes: list[Complement], width: int, name: str, subtract: bool = False
) -> Value:
    """Return the sum of one or two nodes and of their signs."""
    a = nodes[0]
    if len(nodes) == 2:
        b = nodes[1]
        part = max(len(a.value), len(b.value)) + 1
        a = Complement(_add(m, a.value, b.value, b.sign, part, f"{name}_open", subtract), a.sign)
    total = Signal(signed(width), name=name)
    m.d.comb += total.eq(a.value + a.sign)
    return total


def _add(
    m: Module, a: Any, b: Any, sign: Value, width: int, name: str, subtract: bool = False
) -> Signal:
    """Return ``a + b + sign``."""
    wide = Signal(signed(width + 1), name=f"{name}_wide")
    if subtract:
        left = Cat(Const(0, 1), a).as_signed()
        right = Cat(~sign, ~b).as_signed()
        m.d.comb += wide.eq(left - right)
    else:
        left = Cat(Const(1, 1), a).as_signed()
        right = Cat(sign, b).as_signed()
        m.d.comb += wide.eq(left + right)
    total = Signal(signed(width), name=name)
    m.d.comb += total.eq(wide[1:])
    return total
