"""From a raw log to batches: the event log, the catalog, sources, splits, as-of histories."""
