"""Settings of the adaptation of a backbone by the items of a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from llmrec.config.validation import COUNT_FROM_0, COUNT_FROM_1, PART, POSITIVE, SHARE, Bounds

ItemMethod = Literal["align", "contrast"]


@dataclass(frozen=True)
class ItemAdaptConfig:
    """Training of the backbone on items and their texts, before the recommender's own layers are fitted."""

    method: ItemMethod = "align"
    """ItemLoss: align (the fitted item vectors from texts) or contrast (items of one user close to each other)."""
    epochs: Annotated[float, POSITIVE] = 8.0
    """Times that each item is read, at most."""
    evals: Annotated[int, COUNT_FROM_1] = 8
    """Measurements on held-out items, at equal distances."""
    patience: Annotated[int, COUNT_FROM_1] = 3
    """Measurements without gain before training stops."""
    items_per_step: Annotated[int, Bounds(8, 2**20)] = 256
    """Items of a step, of all processes together; contrast makes pairs of half of them."""
    learning_rate: Annotated[float | None, POSITIVE] = None
    """Learning rate of the backbone; null: 5e-4 for adapters, else 1e-4."""
    head_learning_rate: Annotated[float, POSITIVE] = 1e-3
    """Learning rate of the map and the scale, which are not kept."""
    weight_decay: Annotated[float, Bounds(0)] = 0.01
    """Weight decay of AdamW."""
    warmup_ratio: Annotated[float, SHARE] = 0.05
    """Share of the steps over which the learning rate grows from 0."""
    lr_scheduler: Literal["constant", "linear", "cosine"] = "cosine"
    """Schedule of the learning rate after the warm-up."""
    max_grad_norm: Annotated[float, POSITIVE] = 1.0
    """Norm at which gradients are clipped."""
    anchor: Annotated[float, Bounds(0)] = 0.1
    """Weight of the distance between an item's vector and its vector before training."""
    field_dropout: Annotated[float, Bounds(0, 0.9)] = 0.4
    """Share of an item's fields, or words if it has one field, that its second text leaves out."""
    dropped_share: Annotated[float, SHARE] = 0.33
    """Share of the items of a step that are read by their second text."""
    held_out_fraction: Annotated[float, PART] = 0.1
    """Share of the items whose ranking decides when to stop; nothing is learned from them."""
    max_held_out_queries: Annotated[int, COUNT_FROM_1] = 1000
    """Histories of a measurement; a seeded sample if there are more."""
    min_events: Annotated[int, COUNT_FROM_1] = 5
    """Training events of an item whose vector is a target of align."""
    window: Annotated[int, COUNT_FROM_1] = 3
    """Number of following events that contrast pairs each event with."""
    n_negatives: Annotated[int, COUNT_FROM_1] = 128
    """Items that contrast draws uniformly in each step, in addition to those of the pairs."""
    n_hard_negatives: Annotated[int, COUNT_FROM_0] = 64
    """Items with the texts most similar to those of the pairs, which no user has with them, in each step."""
