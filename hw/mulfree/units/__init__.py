"""The products: matrix-vector cores without a multiplier, and what they are compared with."""
