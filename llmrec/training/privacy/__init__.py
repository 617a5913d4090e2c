"""Differential privacy of users."""
