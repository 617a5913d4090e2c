"""A fitted recommender that answers: queries, live users, explanations."""
