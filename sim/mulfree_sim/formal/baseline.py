"""What is proved of the conventional cores."""

from mulfree.units.baseline import BaselineSpec
from mulfree_sim.formal import Proof, core


def proofs(spec: BaselineSpec) -> list[Proof]:
    """Return the proofs of one Spec."""
    return core.proofs(spec)
