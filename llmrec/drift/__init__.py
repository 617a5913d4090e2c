"""Change of preferences over time: terms, their mixture, and how both are fitted and described."""
