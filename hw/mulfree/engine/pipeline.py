"""Registers in a row, without reset: what the engine's datapath is cut up by.

In the whole engine a reset reaches only what says that something is under way. What a layer's begin
sets, or the edge before its use, goes without: a wire to everything is a large engine's longest.
"""

from typing import Any

from amaranth.hdl import Module, Signal, Value


def register(m: Module, value: Any, name: str) -> Any:
    """Return the value one edge later, in a register that reset leaves alone."""
    value = value if hasattr(value, "shape") else Value.cast(value)
    held = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += held.eq(value)
    return held


def delayed(m: Module, value: Any, edges: int, name: str) -> Any:
    """Return the value so many edges later."""
    for edge in range(edges):
        value = register(m, value, f"{name}_{edge + 1}")
    return value


def pulses(m: Module, signal: Any, edges: int, name: str) -> list[Any]:
    """Return the one-bit signal 0, 1, … `edges` edges later; reset clears what is under way."""
    line = Signal(max(edges, 1), name=name)
    m.d.sync += line.eq((line << 1) | signal)
    return [signal, *(line[i] for i in range(edges))]
