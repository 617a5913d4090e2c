"""One run: its start, its record, and where it comes from."""
