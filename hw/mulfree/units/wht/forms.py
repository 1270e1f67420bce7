"""Which component is which form."""

from amaranth.lib import wiring

from mulfree.units.wht.folded import Folded
from mulfree.units.wht.frame import Framed
from mulfree.units.wht.parallel import Parallel
from mulfree.units.wht.serial import Serial
from mulfree.units.wht.spec import TransformSpec
from mulfree.units.wht.streaming import Streaming


def build(spec: TransformSpec) -> wiring.Component:
    """Return the component of a Spec."""
    match spec.form:
        case "parallel":
            return Parallel(spec)
        case "streaming":
            return Framed(spec, Streaming(spec))
        case "folded":
            return Framed(spec, Folded(spec))
        case _:
            return Framed(spec, Serial(spec))
