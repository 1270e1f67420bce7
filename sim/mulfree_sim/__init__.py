"""Golden models, benches, proofs and the runner that holds the RTL against them."""
