"""Pooling of the states of a text's tokens into one vector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from llmrec.config.backbone import BackboneConfig

Pooling = Literal["mean", "cls", "last"]
ST_POOLING = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "last"}


def pool(hidden: Tensor, attention_mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Pool hidden states into text vectors.

    Args:
        hidden: Hidden states, (U, L, D), padded on the right.
        attention_mask: Mask, (U, L); None if there is no padding.
        pooling: Rule.

    Returns:
        Text vectors, (U, D).
    """
    if pooling == "cls":
        return hidden[:, 0]
    if attention_mask is None:
        return hidden[:, -1] if pooling == "last" else hidden.mean(1)
    if pooling == "last":
        last = attention_mask.sum(1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weight = attention_mask[..., None].to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def choose_pooling(config: BackboneConfig, path: str, causal: bool) -> Pooling:
    """Choose the pooling of a backbone: as configured, else as its folder says, else by its kind.

    Args:
        config: Settings of the backbone.
        path: Folder of the backbone.
        causal: Whether it is a decoder.

    Returns:
        The rule.
    """
    if config.pooling != "auto":
        return config.pooling
    settings = Path(path) / "1_Pooling" / "config.json"
    if settings.is_file():
        chosen = [mode for key, mode in ST_POOLING.items() if json.loads(settings.read_text()).get(key)]
        if len(chosen) == 1:
            return chosen[0]  # type: ignore[return-value]
    return "last" if causal else "mean"
