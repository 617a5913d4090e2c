"""The terms of the drift head."""
