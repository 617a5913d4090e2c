"""What spreads a job over processes."""
