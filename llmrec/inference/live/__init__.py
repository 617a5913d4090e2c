"""Live users and everything that moves while a recommender serves."""
