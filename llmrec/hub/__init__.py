"""Bundles: saved recommenders, their cards, and exchange with the Hub."""
