"""Bundles: a recommender on disk, its card, and its way to the hub."""
