"""Utilities for all packages: arrays, files, text, time and logging."""
