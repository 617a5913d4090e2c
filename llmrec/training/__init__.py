"""Losses, the training loop, and checkpoints of the trainable weights."""
