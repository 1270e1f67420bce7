"""What is proved of the weight-stationary array: the stream rules; its cores have own proofs."""

from mulfree.engine.array import ArraySpec
from mulfree_sim.formal import Proof
from mulfree_sim.formal.streams import stream_rules


def proofs(spec: ArraySpec) -> list[Proof]:
    """Return the proofs of one Spec."""
    return stream_rules(spec.component(), depth=3)
