"""Settings of each job."""
