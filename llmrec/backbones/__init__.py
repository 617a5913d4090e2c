"""Pretrained models that encode text: loading, adaptation, caches and fast arithmetic."""
