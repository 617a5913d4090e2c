"""Preferences that move with time, as a Markov chain over what people are interested in."""
