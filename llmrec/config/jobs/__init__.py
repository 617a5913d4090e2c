"""The configuration of each job."""
