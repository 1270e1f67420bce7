"""The parallel form: a whole vector a clock through levels of butterflies side by side."""

from typing import Any

from amaranth.hdl import Const, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mulfree.arith.butterfly import butterfly
from mulfree.units.wht.spec import TransformSpec


class Parallel(wiring.Component):
    """Computes ``result = H · sample`` for one vector per enabled clock edge.

    The samples of a vector that is padded, and the results that an inverse crops, exist as zeros
    and as nothing: the synthesis tool removes what hangs on them.

    Members
    -------
    en : In(1), with registers only
        The pipeline advances on this clock edge.
    sample : In(spec.sample_shape × in_length)
        The vector, sample 0 in the low bits; a map row by row.
    result : Out(signed(spec.result_bits) × out_length)
        The transform, `spec.latency` enabled edges later; combinational when that is 0.
    """

    port_help = {
        "en": "the pipeline advances on this clock edge",
        "sample": "the vector, sample 0 in the low bits",
        "result": "the transform, result 0 in the low bits",
    }

    def __init__(self, spec: TransformSpec) -> None:
        ports: dict[str, Any] = {"en": In(1)} if spec.latency else {}
        super().__init__(
            ports
            | {
                "sample": In(data.ArrayLayout(spec.sample_shape, spec.in_length)),
                "result": Out(data.ArrayLayout(signed(spec.result_bits), spec.out_length)),
            }
        )
        self.spec = spec

    def elaborate(self, platform: object) -> Module:
        """Build block by block and level by level."""
        m = Module()
        spec = self.spec
        padded = _positions(spec)
        taken = padded if spec.direction == "forward" else range(spec.padded)
        given = padded if spec.direction == "inverse" else range(spec.padded)
        values: list[Any] = [Const(0, signed(spec.signed_bits))] * spec.padded
        for place, position in enumerate(taken):
            values[position] = Signal(signed(spec.signed_bits), name=f"sample_{position}")
            m.d.comb += values[position].eq(self.sample[place])
        for level in range(spec.levels):
            stride = 1 << level
            wide = signed(spec.signed_bits + level + 1)
            last = level == spec.levels - 1
            registered = spec.pipeline and (last or (level + 1) % spec.pipeline == 0)
            for low in (i for i in range(spec.padded) if not i & stride):
                pair = butterfly(values[low], values[low + stride])
                for index, value in zip((low, low + stride), pair, strict=True):
                    if last:
                        value = spec.finish(value)
                    name = f"level{level + 1}_{index}"
                    held = Signal(signed(spec.result_bits) if last else wide, name=name)
                    if registered:
                        with m.If(self.en):
                            m.d.sync += held.eq(value)
                    else:
                        m.d.comb += held.eq(value)
                    values[index] = held
        for place, position in enumerate(given):
            m.d.comb += self.result[place].eq(values[position])
        return m


def _positions(spec: TransformSpec) -> list[int]:
    """Return where in the padded vector each sample of the vector without padding stands."""
    positions, span = [0], 1
    for real, total in spec.runs:
        positions = [outer * span + inner for outer in range(real) for inner in positions]
        span *= total
    return positions
