"""Recommendations by a trained bundle: queries, live users and explanations."""
