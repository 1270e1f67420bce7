"""What is proved of the LUT-NA cores, the approximate ones among them."""

from mulfree.units.lutna import LutNASpec
from mulfree_sim.formal import Proof, core, tables


def proofs(spec: LutNASpec) -> list[Proof]:
    """Return the proofs of one Spec."""
    dropped_bits, added = spec.drop_digits * spec.digit_bits, spec.compensation_value
    if spec.store not in ("distributed", "block"):
        return core.proofs(spec, dropped_bits, added)
    if spec.fill_lanes:  # few clocks, which can be unrolled
        return core.proofs(spec, dropped_bits, added, ahead=True)
    parts = tables.Parts(spec)
    return [
        tables.generator(parts),
        tables.product(parts, dropped_bits, added),
        tables.hold(parts),
        tables.loading(parts),
    ]
