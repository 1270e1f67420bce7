"""Carry-save sums: a heap of weighted bits, reduced by adders to two rows, which are then added.

The rows of any radix and the terms of any number of products go into one heap, whose result is
exact modulo 2^width. A bit of negative weight, ``-b·2^i``, goes in as ``(1-b)·2^i - 2^i``: all the
constants of all signs and negations together make one constant row, so no sign is ever extended
(Baugh and Wooley, "A two's complement parallel array multiplication algorithm", IEEE Trans.
Computers C-22, 1973).
"""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Module, Signal, Value

from mulfree.arith.trees import Term, add_tree, delay

#: How a heap is reduced; see `BitHeap.plan`.
SCHEMES = ("array", "wallace", "dadda")


class Step(NamedTuple):
    """One stage of adders.

    Members
    -------
    take
        Rows that join the columns before this stage.
    adders
        Full and half adders of each column, the column of weight 1 first.
    """

    take: int
    adders: tuple[tuple[int, int], ...]


class BitHeap:
    """Rows of weighted bits whose sum is wanted modulo 2^width.

    Raises
    ------
    ValueError
        `width` is below 1.
    """

    def __init__(self, width: int, terms: Iterable[Term] = ()) -> None:
        if width < 1:
            raise ValueError(f"width must be 1 or more, not {width}")
        self._width = width
        self._constant = 0
        self._rows: list[dict[int, Any]] = []
        self._expressions: list[tuple[Signal, Value]] = []
        for term in terms:
            self.add(term)

    @property
    def width(self) -> int:
        """Bits of the sum."""
        return self._width

    def add(self, term: Term) -> None:
        """Add a term; a constant joins the constant row, a signal becomes a row of its own."""
        value = Value.cast(term.value)
        if isinstance(value, Const):
            self._constant += (-value.value if term.negate else value.value) << term.shift
            return
        if not isinstance(value, Signal):
            value, expression = Signal(value.shape()), value
            self._expressions.append((value, expression))
        row = {}
        for place in range(len(value)):
            weight = term.shift + place
            negative = term.negate != (value.shape().signed and place == len(value) - 1)
            if negative:
                self._constant -= 1 << weight
            if weight < self._width:
                row[weight] = ~value[place] if negative else value[place]
        if row:
            self._rows.append(row)

    def rows(self) -> list[dict[int, Any]]:
        """Return the rows as {weight: bit}, the constant row first if it is not zero."""
        constant = self._constant % (1 << self._width)
        ones = {i: Const(1, 1) for i in range(self._width) if constant >> i & 1}
        return [*([ones] if ones else []), *self._rows]

    def plan(self, scheme: str) -> list[Step]:
        """Return the stages that leave two bits a column at most.

        ``array`` adds a row a stage, as the rows of an array multiplier do. ``wallace`` puts every
        three bits of a column into a full adder and two left over into a half adder (Wallace, "A
        suggestion for a fast multiplier", IEEE Trans. EC-13, 1964). ``dadda`` uses just enough
        adders to come down to the next of 2, 3, 4, 6, 9, 13, … bits a column (Dadda, "Some schemes
        for parallel multipliers", Alta Frequenza 34, 1965).

        Raises
        ------
        ValueError
            `scheme` is not one of `SCHEMES`.
        """
        if scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, not {scheme!r}")
        rows = self.rows()
        heights = [0] * self._width
        steps = []
        while max(_joined(heights, rows)) > 2:
            take = (1 if steps else 3) if scheme == "array" else len(rows)
            taken, rows = rows[:take], rows[take:]
            heights = _joined(heights, taken)
            adders = _ADDERS[scheme](heights)
            heights = _after(heights, adders)
            steps.append(Step(len(taken), tuple(adders)))
        return steps

    def sum(
        self,
        m: Module,
        plan: list[Step],
        *,
        registers: Collection[int] = (),
        enable: Any = None,
        name: str = "heap",
    ) -> Signal:
        """Return the sum, unsigned, `width` bits, built in the stages of a plan of this heap.

        Parameters
        ----------
        registers
            Levels that end in a rank of registers: 0 registers the rows themselves, n the results
            of the n-th stage, ``len(plan) + 1`` the sum. The latency is the number of levels.
        enable
            The registers take their inputs on clock edges where this is 1; on every edge when None.
        name
            Prefix of the signals in the Verilog.

        Raises
        ------
        ValueError
            A level to register does not exist.
        """
        for level in registers:
            if not 0 <= level <= len(plan) + 1:
                raise ValueError(
                    f"registers must be levels between 0 and {len(plan) + 1}, not {level}"
                )
        m.d.comb += [signal.eq(expression) for signal, expression in self._expressions]
        rows = self.rows()
        columns: list[list[Any]] = [[] for _ in range(self._width)]
        if 0 in registers:
            rows, columns = _register(m, rows, columns, enable, f"{name}_0_q")
        for level, step in enumerate(plan, 1):
            columns = _stage(m, _join(columns, rows[: step.take]), step.adders, f"{name}_{level}")
            rows = rows[step.take :]
            if level in registers:
                rows, columns = _register(m, rows, columns, enable, f"{name}_{level}_q")
        total = Signal(self._width, name=name)
        m.d.comb += total.eq(_final(m, _join(columns, rows), f"{name}_final"))
        if len(plan) + 1 not in registers:
            return total
        return delay(m, total, 1, enable, f"{name}_q")


def _joined(heights: list[int], rows: list[dict[int, Any]]) -> list[int]:
    """Return the bits a column has when the rows have joined."""
    return [height + sum(i in row for row in rows) for i, height in enumerate(heights)]


def _join(columns: list[list[Any]], rows: list[dict[int, Any]]) -> list[list[Any]]:
    return [column + [row[i] for row in rows if i in row] for i, column in enumerate(columns)]


def _wallace(heights: list[int]) -> list[tuple[int, int]]:
    return [(height // 3, int(height % 3 == 2)) for height in heights]


def _dadda(heights: list[int]) -> list[tuple[int, int]]:
    target = 2
    while (higher := target * 3 // 2) < max(heights):
        target = higher
    adders, carries = [], 0
    for height in heights:
        excess = max(height + carries - target, 0)
        adders.append((excess // 2, excess % 2))
        carries = sum(adders[-1])
    return adders


def _array(heights: list[int]) -> list[tuple[int, int]]:
    # Where a carry arrives, two bits must become one for two to remain.
    adders, carries = [], 0
    for height in heights:
        adders.append((int(height == 3), int(height == 2 and carries > 0)))
        carries = sum(adders[-1])
    return adders


_ADDERS = {"array": _array, "wallace": _wallace, "dadda": _dadda}


def _after(heights: list[int], adders: list[tuple[int, int]]) -> list[int]:
    carries = [0, *(full + half for full, half in adders)]
    return [
        height - 2 * full - half + carry
        for height, (full, half), carry in zip(heights, adders, carries, strict=False)
    ]


def _stage(
    m: Module, columns: list[list[Any]], adders: tuple[tuple[int, int], ...], name: str
) -> list[list[Any]]:
    """Build one stage; its adders side by side are the bits of a few vectors."""
    full: list[tuple[int, list[Any]]] = []
    half: list[tuple[int, list[Any]]] = []
    after: list[list[Any]] = []
    for weight, (column, (fulls, halves)) in enumerate(zip(columns, adders, strict=True)):
        rest = list(column)
        for found, count, size in ((full, fulls, 3), (half, halves, 2)):
            for _ in range(count):
                found.append((weight, rest[:size]))
                del rest[:size]
        after.append(rest)
    for found, kind in ((full, "full"), (half, "half")):
        if not found:
            continue
        inputs = [Cat(bits) for bits in zip(*(bits for _, bits in found), strict=True)]
        total = Signal(len(found), name=f"{name}_{kind}_sum")
        carry = Signal(len(found), name=f"{name}_{kind}_carry")
        if kind == "full":
            a, b, c = inputs
            m.d.comb += [total.eq(a ^ b ^ c), carry.eq((a & b) | (c & (a ^ b)))]
        else:
            a, b = inputs
            m.d.comb += [total.eq(a ^ b), carry.eq(a & b)]
        for place, (weight, _) in enumerate(found):
            after[weight].append(total[place])
            if weight + 1 < len(after):
                after[weight + 1].append(carry[place])
    return after


def _final(m: Module, columns: list[list[Any]], name: str) -> Any:
    """Return the sum of two rows; columns below the first with two bits pass by the adder."""
    first = Cat(column[0] if column else Const(0, 1) for column in columns)
    low = next((i for i, column in enumerate(columns) if len(column) > 1), None)
    if low is None:
        return first
    second = Cat(column[1] if len(column) > 1 else Const(0, 1) for column in columns[low:])
    return add_tree(m, [Term(first), Term(second, low)], name=name).value


def _register(
    m: Module, rows: list[dict[int, Any]], columns: list[list[Any]], enable: Any, name: str
) -> tuple[list[dict[int, Any]], list[list[Any]]]:
    """Put every bit but the constants, in columns or still waiting in rows, into one register."""
    waiting = [bit for row in rows for bit in row.values()]
    bits = [bit for column in columns for bit in column] + waiting
    bits = [bit for bit in bits if not isinstance(bit, Const)]
    held = delay(m, Cat(bits), 1, enable, name)
    places = iter(range(len(bits)))

    def after(bit: Any) -> Any:
        return bit if isinstance(bit, Const) else held[next(places)]

    columns = [[after(bit) for bit in column] for column in columns]
    rows = [{weight: after(bit) for weight, bit in row.items()} for row in rows]
    return rows, columns
