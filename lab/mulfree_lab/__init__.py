"""Measuring: synthesis counts, logic depth, comparisons with baselines."""
