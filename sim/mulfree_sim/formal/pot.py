"""What is proved of the power-of-two cores."""

from mulfree.units.pot import PoTSpec
from mulfree_sim.formal import Proof, core


def proofs(spec: PoTSpec) -> list[Proof]:
    """Return the proofs of one Spec."""
    return core.proofs(spec)
