"""Prediction of the time and memory of a run from a few measured steps, and choice of a strategy."""
