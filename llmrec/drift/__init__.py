"""Preferences that move with time: terms, their mixture, how both are fitted and described."""
