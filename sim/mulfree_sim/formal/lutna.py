"""What is proved of the LUT-NA cores, the approximate ones among them."""

from mulfree.units.lutna import LutNASpec
from mulfree_sim.formal import Proof, core


def proofs(spec: LutNASpec) -> list[Proof]:
    """Return the proofs of one Spec."""
    return core.proofs(spec, spec.drop_digits * spec.digit_bits, spec.compensation_value)
