"""Continued pretraining of a backbone on the texts and pairs of a log."""
