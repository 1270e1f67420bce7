"""Loadable shifts of a signed number, with sign and zero, in few look-up tables a bit.

A weight ±2^n or 0 becomes a control word when it is loaded; the data path then spends no logic on
decoding. The negative is the one's complement, the low bits filled with the sign, so that a product
is no wider than the shifted number; whoever adds products adds the sign bit as a carry
(`arith.complement`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

#: What a stage keeps of a weight: name of the control bit -> its value.
Controls = dict[str, int]


@dataclass(frozen=True)
class _Stage(ABC):
    """Shifts by ``0, unit, … (count-1)·unit``, or makes everything zero where `zero` is set."""

    unit: int
    count: int
    zero: bool = False

    @property
    def growth(self) -> int:
        """Bits that the number gains."""
        return self.unit * (self.count - 1)

    @abstractmethod
    def controls(self, pick: int | None, sign: int) -> Controls:
        """Return the control bits for a shift of ``pick · unit``, or None for zero."""

    @abstractmethod
    def apply(self, y: Value, c: dict[str, Value], fill: Value, spare: int) -> Any:
        """Return the shifted number, `growth` bits wider.

        `spare` says how many of the bits of `y` below its sign repeat the sign when the largest
        shift is taken.
        """

    def _bit(self, y: Value, place: int, fill: Value, pick: int, spare: int) -> Any:
        """Return what a shift of ``pick · unit`` puts in a place."""
        source, sign = place - pick * self.unit, len(y) - 1
        if source < 0:
            return fill
        if pick and pick == self.count - 1 and source >= sign - spare:
            return y[sign]
        return y[min(source, sign)]


class _Select(_Stage):
    """A multiplexer with plain binary select: up to four choices in a LUT6."""

    @property
    def _select_bits(self) -> int:
        return (self.count + self.zero - 1).bit_length()

    def controls(self, pick: int | None, sign: int) -> Controls:
        index = 0 if pick is None else pick + self.zero
        return {f"h{i}": index >> i & 1 for i in range(self._select_bits)}

    def apply(self, y: Value, c: dict[str, Value], fill: Value, spare: int) -> Any:
        index = Cat(c[f"h{i}"] for i in range(self._select_bits))
        places = range(len(y) + self.growth)
        words = [
            Cat(self._bit(y, place, fill, pick, spare) for place in places)
            for pick in range(self.count)
        ]
        return _choose(index, [Const(0, len(places)), *words] if self.zero else words)


class _First(_Select):
    """The first stage: shifts in zeros, then takes the one's complement of negatives."""

    def controls(self, pick: int | None, sign: int) -> Controls:
        return super().controls(pick, sign) | {"s": sign}

    def apply(self, y: Value, c: dict[str, Value], fill: Value, spare: int) -> Any:
        shifted = super().apply(y, c, Const(0, 1), spare)
        return shifted ^ c["s"].replicate(len(shifted))


class _Pair(_Stage):
    """Two shifts and zero in a LUT4 a bit: k0 makes the bit k1, else k1 picks the shift."""

    def controls(self, pick: int | None, sign: int) -> Controls:
        return {"k0": int(pick is None), "k1": pick or 0}

    def apply(self, y: Value, c: dict[str, Value], fill: Value, spare: int) -> Any:
        places = range(len(y) + self.growth)
        return Cat(
            _fill_mux(*(self._bit(y, j, fill, pick, spare) for pick in (0, 1)), c["k0"], c["k1"])
            for j in places
        )


class _Quad(_Stage):
    """Four shifts and zero in two LUT4 a bit.

    ``t = k0 ? k1 : (k1 ? y[j-u] : y[j])`` then ``m ? (t ? y[j-3u] : y[j-2u]) : t``; where a shift
    has only the sign to offer, fewer inputs are left and narrower controls serve.
    """

    def controls(self, pick: int | None, sign: int) -> Controls:
        found = {
            "c0": int(pick == 0),
            "k0": int(pick in (None, 2, 3)),
            "k1": int(pick in (1, 3)),
            # Below three units, the shifts that have nothing to offer leave the fill.
            "k1_low": int(pick == 1 or (pick in (2, 3) and sign)),
            "m": int(pick in (2, 3)),
            "m2": int(pick == 2),
            "m3": int(pick == 3),
        }
        return found | ({"nz": int(pick is not None)} if self.zero else {})

    def apply(self, y: Value, c: dict[str, Value], fill: Value, spare: int) -> Any:
        u, sign = self.unit, len(y) - 1
        top = (c["nz"] & y[sign]) if self.zero else y[sign]
        bits = []
        for j in range(len(y) + self.growth):
            at = [self._bit(y, j, fill, pick, spare) for pick in range(4)]
            if j < u:
                bit = Mux(c["c0"], at[0], fill)
            elif j < 2 * u:
                bit = _fill_mux(at[0], at[1], c["k0"], c["k1_low"])
            elif j < 3 * u:
                bit = Mux(c["m2"], at[2], _fill_mux(at[0], at[1], c["k0"], c["k1_low"]))
            elif j - 2 * u < sign:
                t = _fill_mux(at[0], at[1], c["k0"], c["k1"])
                bit = Mux(c["m"], Mux(t, at[3], at[2]), t)
            elif j - 3 * u < sign - spare:
                bit = Mux(c["m3"], at[3], top)
            else:
                bit = top
            bits.append(bit)
        return Cat(*bits)


def _fill_mux(a: Any, b: Any, k0: Any, k1: Any) -> Value:
    return Mux(k0, k1, Mux(k1, b, a))


def _choose(index: Value, choices: list[Any]) -> Any:
    """Return ``choices[index]``; beyond the end, the last."""
    if len(choices) == 1:
        return choices[0]
    half = 1 << (len(choices) - 1).bit_length() - 1
    return Mux(
        index[half.bit_length() - 1],
        _choose(index, choices[half:]),
        _choose(index, choices[:half]),
    )


#: Stages for every width of a weight. A LUT4 holds one stage of two choices, a LUT6 one of four.
_PLANS: dict[str, dict[int, tuple[_Stage, ...]]] = {
    "lut4": {
        2: (_First(1, 1, zero=True),),
        3: (_First(1, 2), _Pair(1, 2, zero=True)),
        4: (_First(1, 2), _Quad(2, 4, zero=True)),
        5: (_First(1, 2), _Quad(2, 4, zero=True), _Select(8, 2)),
        6: (_First(1, 2), _Quad(2, 4, zero=True), _Quad(8, 4)),
    },
    "lut6": {
        2: (_First(1, 1, zero=True),),
        3: (_First(1, 3, zero=True),),
        4: (_First(1, 3), _Select(3, 3, zero=True)),
        5: (_First(1, 2, zero=True), _Select(2, 4), _Select(8, 2)),
        6: (_First(1, 2, zero=True), _Select(2, 4), _Select(8, 4)),
    },
}

STRUCTURES = tuple(_PLANS)


class Shifter:
    """How a signed number is multiplied by a power-of-two code of one term.

    Parameters
    ----------
    structure
        ``lut4`` finishes the product before its register; ``lut6`` leaves the last of several
        stages for the look-up tables of the adder behind the register.
    weight_bits
        Width of the code, 2…6: see `formats.PowerOfTwo`.
    number_bits
        Width of the signed number.
    """

    def __init__(self, structure: str, weight_bits: int, number_bits: int) -> None:
        self._stages = _PLANS[structure][weight_bits]
        self._weight_bits = weight_bits
        self.max_shift = (1 << (weight_bits - 1)) - 2
        self.width = number_bits + self.max_shift
        self.late = structure == "lut6" and len(self._stages) > 1
        self._spare = sum(stage.growth for stage in self._stages) - self.max_shift
        self._names = [
            (i, name) for i, stage in enumerate(self._stages) for name in stage.controls(0, 0)
        ]

    @property
    def control_bits(self) -> int:
        """Width of a control word; its bit 0 is the sign."""
        return len(self._names)

    def control_word(self, code: int) -> int:
        """Return the control word of a code."""
        field = code & ((1 << (self._weight_bits - 1)) - 1)
        sign = code >> (self._weight_bits - 1) if field else 0
        picks: list[int | None] = [None] * len(self._stages)
        if field:
            rest = field - 1
            for i, stage in reversed([*enumerate(self._stages)]):
                picks[i] = min(rest // stage.unit, stage.count - 1)
                rest -= (picks[i] or 0) * stage.unit
        found = {
            (i, name): bit
            for i, stage in enumerate(self._stages)
            # A stage that cannot make zero passes on the zero that another makes.
            for name, bit in stage.controls(picks[i] if field or stage.zero else 0, sign).items()
        }
        return sum(found[key] << place for place, key in enumerate(self._order))

    @property
    def _order(self) -> list[tuple[int, str]]:
        sign = (0, "s")
        return [sign, *(key for key in self._names if key != sign)]

    def recode(self, m: Module, code: Value, name: str) -> Signal:
        """Return the control word of a code that arrives."""
        word = Signal(self.control_bits, name=name)
        with m.Switch(code):
            for value in range(1 << self._weight_bits):
                with m.Case(value):
                    m.d.comb += word.eq(self.control_word(value))
        return word

    def sign(self, word: Value) -> Any:
        """Return what has to be added to the product."""
        return word[0]

    def product(
        self, m: Module, number: Value, word: Value, hold: Callable[[Value, str], Value], name: str
    ) -> Any:
        """Return the product less its sign, ``width`` bits signed, behind one register.

        Parameters
        ----------
        hold
            Puts a value and its name into the register.
        """
        c: list[dict[str, Value]] = [{} for _ in self._stages]
        for place, (i, control) in enumerate(self._order):
            c[i][control] = word[place]
        y: Any = number
        for i, stage in enumerate(self._stages):
            last = i == len(self._stages) - 1
            if last and self.late:
                y = hold(y, f"{name}_q")
            y = stage.apply(y, c[i], self.sign(word), self._spare if last else 0)
            shaped = Signal(min(len(y), self.width), name=f"{name}_{i}")
            m.d.comb += shaped.eq(y)
            y = shaped
        if not self.late:
            y = hold(y, f"{name}_q")
        return y.as_signed()
