"""Distribution of a job over processes."""
