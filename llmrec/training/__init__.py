"""Losses, the Accelerate loop, checkpoints of the trainable part."""
