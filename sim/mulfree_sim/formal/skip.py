"""What is proved of the zero-skipping unit: the stream rules."""

from mulfree.units.skip import SkipSpec
from mulfree_sim.formal import Proof
from mulfree_sim.formal.streams import stream_rules


def proofs(spec: SkipSpec) -> list[Proof]:
    """Return the proofs of one Spec."""
    return stream_rules(spec.component())
