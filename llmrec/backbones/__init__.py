"""Pretrained models that encode text, how they are adapted, and what makes them fast."""
