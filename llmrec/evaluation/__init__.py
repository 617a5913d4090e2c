"""Evaluation: full ranking, metrics, intervals, slices, baselines and results."""
