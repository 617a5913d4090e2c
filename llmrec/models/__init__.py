"""Backbones, their transfer, item and history encoders: tensors in, tensors out."""
