"""Start, record and end of a run, and the facts that its results depend on."""
