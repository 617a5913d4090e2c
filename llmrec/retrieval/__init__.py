"""A fitted recommender at work: what moves while it serves."""
