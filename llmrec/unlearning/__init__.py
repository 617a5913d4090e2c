"""Removal of users from logs, counts, states and stores."""
