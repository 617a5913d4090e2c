"""Small helpers that know nothing of recommendation."""
