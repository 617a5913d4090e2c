"""Data from the raw log to batches: readers, checks, catalog, splits and histories."""
