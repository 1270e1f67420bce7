"""What is proved of fully connected layers: the stream rules; their parts have own proofs."""

from mulfree.engine.dense import DenseSpec
from mulfree_sim.formal import Proof
from mulfree_sim.formal.streams import stream_rules


def proofs(spec: DenseSpec) -> list[Proof]:
    """Return the proofs of one Spec."""
    return stream_rules(spec.component(), depth=3)
