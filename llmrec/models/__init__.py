"""Recommender models: item encoders, history encoders and losses on tensors."""
