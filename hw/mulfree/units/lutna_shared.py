"""LUT-NA with tables of the activations: each is made once and looked up by every output.

The weight is cut into digits and the table holds the activation's multiples; with several lanes to
a table it holds every sum of theirs, so that a look-up replaces the additions of its lanes:
``Σ_i d_i·X_i`` for the digits d_i of the lanes' weights at one place. A table is as wide as one sum
and costs its additions once for all outputs; an output costs look-ups and half (two lanes, one bit
a digit) the rows of a binary multiplier. Selects stand still while a tile is in use.

With signed digits, the weight is recoded as it arrives and kept as digits from -2 to 2, as many of
them zero as can be. The table is the activation itself and needs no adder: what a zero digit looks
up stands still, and a small negative weight has no row of sign bits.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value

from mulfree.arith.booth import Digit, multiple, sparse
from mulfree.arith.trees import Term, add_tree, delay, shape_for


def place_widths(weight_bits: int, digit_bits: int) -> list[int]:
    """Return the widths of a weight's digits, lowest first; the sign bit is a digit of its own."""
    magnitude = weight_bits - 1
    whole, rest = divmod(magnitude, digit_bits)
    return [digit_bits] * whole + [rest] * (rest > 0) + [1]


def build(core: Any, m: Module, tile: list[Value]) -> list[list[Term]]:
    """Return the terms of every output: a look-up for each lane group and digit place.

    Parameters
    ----------
    tile
        The weights in use, word ``lane · outputs + output``.
    """
    spec = core.spec
    widths = place_widths(spec.weight_bits, spec.digit_bits)
    terms: list[list[Term]] = [[] for _ in range(spec.outputs)]
    for group in range(spec.groups):
        lanes = range(group * spec.table_lanes, (group + 1) * spec.table_lanes)
        table = _table(core, m, [core.act[lane] for lane in lanes], f"table_{group}")
        for o in range(spec.outputs):
            weights = [tile[lane * spec.outputs + o] for lane in lanes]
            at = 0
            for place, width in enumerate(widths):
                digits = [weight[at : at + width] for weight in weights]
                name = f"row_{o}_{group}_{place}"
                row = _look_up(m, spec, table, digits, name)
                terms[o].append(Term(row, at, negate=place == len(widths) - 1))
                at += width
    return terms


def _table(core: Any, m: Module, acts: list[Value], name: str) -> dict[tuple[int, ...], Value]:
    """Return the registered sums by the lanes' digits, zero left out; one addition makes each."""
    spec = core.spec
    size = 1 << spec.digit_bits
    low, high = spec.act_format.low, spec.act_format.high
    made: dict[tuple[int, ...], Value] = {}
    held: dict[tuple[int, ...], Value] = {}
    lanes = len(acts)
    for index in range(1, size**lanes):
        digits = tuple(index // size**lane % size for lane in range(lanes))
        used = [lane for lane in range(lanes) if digits[lane]]
        halved = tuple(d // 2 for d in digits)
        if len(used) == 1 and digits[used[0]] == 1:
            made[digits] = acts[used[0]]
        elif not any(d % 2 for d in digits):
            made[digits] = made[halved] << 1
            held[digits] = held[halved] << 1
            continue
        else:
            # Least first: what is left has an entry already.
            least = max(used) if len(used) > 1 else used[0]
            part = tuple((d if lane == least else 0) for lane, d in enumerate(digits))
            rest = tuple(d - p for d, p in zip(digits, part, strict=True))
            if not any(rest):
                part = tuple(int(lane == least) for lane in range(lanes))
                rest = tuple(d - p for d, p in zip(digits, part, strict=True))
            total = sum(digits)
            sum_ = Signal(shape_for((low * total, high * total)), name=f"{name}_{index}")
            m.d.comb += sum_.eq(made[part] + made[rest])
            made[digits] = sum_
        held[digits] = delay(m, made[digits], 1, core.en, f"{name}_{index}_q")
    return held


def _look_up(
    m: Module, spec: Any, table: dict[tuple[int, ...], Value], digits: list[Value], name: str
) -> Signal:
    """Return the entry that the digits select, as ANDs and ORs under one decoded line an entry."""
    width = len(digits[0])
    address = Cat(*digits)
    total = len(digits) * ((1 << width) - 1)
    row = Signal(shape_for((spec.act_format.low * total, spec.act_format.high * total)), name=name)
    chosen: Any = Const(0, len(row))
    for index in range(1, 1 << len(address)):
        key = tuple(index >> (width * lane) & ((1 << width) - 1) for lane in range(len(digits)))
        line = Signal(name=f"{name}_is_{index}")
        m.d.comb += line.eq(address == index)
        entry = table[key]
        sign = entry[-1] if entry.shape().signed else Const(0, 1)
        bits = Cat(entry, *[sign] * (len(row) - len(entry)))[: len(row)]
        chosen = chosen | (bits & line.replicate(len(row)))
    m.d.comb += row.eq(chosen)
    return row


def recoded(m: Module, weight: Value, name: str) -> Value:
    """Return a weight as it is kept: its signed digits, the lowest first."""
    digits = sparse(m, weight, name)
    whole = len(weight) // 2
    kept = [Cat(*digit) for digit in digits[:whole]]
    kept += [Cat(digit.one, digit.negative) for digit in digits[whole:]]
    return Value.cast(Cat(*kept))


def _digits(stored: Value, weight_bits: int) -> list[Digit]:
    """Return the digits of a weight as `recoded` has left them."""
    whole = 3 * (weight_bits // 2)
    found = [Digit(*stored[at : at + 3]) for at in range(0, whole, 3)]
    if weight_bits % 2:
        found.append(Digit(stored[whole], Const(0, 1), stored[whole + 1]))
    return found


def build_signed(core: Any, m: Module, tile: list[Value]) -> list[list[Term]]:
    """Return the terms of every output: a row for each lane and digit, and what completes them.

    A negative digit's row is a one's complement, which lacks 1 and, of an unsigned activation, has
    2^width too much. How many lack it, by place, is one sum of what stands still, ahead of the
    rows.

    Parameters
    ----------
    tile
        The digits in use, word ``lane · outputs + output``.
    """
    spec = core.spec
    terms = []
    for o in range(spec.outputs):
        rows, negative = [], []
        for lane in range(spec.lanes):
            act = core.act[lane]
            digits = _digits(tile[lane * spec.outputs + o], spec.weight_bits)
            rows += [Term(multiple(digit, act), 2 * i) for i, digit in enumerate(digits)]
            places = [Cat(digit.negative, Const(0, 1)) for digit in digits]
            negative.append(Term(Cat(*places)[:-1]))
        lacking = add_tree(m, negative, name=f"negative_{o}").value
        ends = [Term(lacking)]
        if not spec.act_signed:
            ends.append(Term(lacking, spec.act_bits + 1, negate=True))
        terms.append(ends + rows)
    return terms
