"""End-to-end jobs, and the functions that run them."""
