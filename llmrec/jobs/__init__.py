"""End-to-end jobs, and what runs them."""
