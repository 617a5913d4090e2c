"""The module that ties item and history encoders: HistoryBatch -> states, states x items -> scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.model import ModelConfig
from llmrec.data.batches import HistoryBatch
from llmrec.models.history_encoders.backbone_encoder import BackboneEncoder
from llmrec.models.history_encoders.protocol import HistoryEncoder
from llmrec.models.history_encoders.sequence_encoder import SequenceEncoder
from llmrec.models.history_encoders.text_encoder import TextEncoder
from llmrec.models.item_affinity import ItemAffinity
from llmrec.models.item_encoder import ItemEncoder

MIN_TEMPERATURE = 0.01


class RecommenderModel(nn.Module):
    """Scores are state . item, on unit vectors divided by a learned temperature if `similarity` is cosine.

    reader: needed where a backbone encodes histories. It is no part of this module: see `BackboneHistoryEncoder`.
    novelty: () what items without a training event gain beside; set by calibration, after training.
    """

    novelty: Tensor

    def __init__(
        self, config: ModelConfig, known: Tensor, text: Tensor | None, reader: CatalogEncoder | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.items = ItemEncoder(config, known, text)
        self.histories = _make_history_encoder(config, self.items, reader)
        self.affinity: ItemAffinity | None = None
        if config.affinity > 0:
            self.affinity = ItemAffinity(config.affinity * self.items.cosine_weights, config.dropout)
        self.register_buffer("novelty", torch.zeros(()))
        self.cosine = config.similarity == "cosine"
        if self.cosine:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))

    def scoring_vectors(self, table: Tensor) -> Tensor:
        """Item vectors (C, D) as the scores see them; what text match has put beside them stays."""
        if not self.cosine:
            return table
        own = functional.normalize(table[:, : self.config.dim], dim=-1)
        return torch.cat([own, table[:, self.config.dim :]], dim=1)

    def score(self, states: Tensor, items: Tensor, known: Tensor) -> Tensor:
        """(M, C) scores of items (C, D) as `scoring_vectors` gives them; known: (C,) whether training saw them."""
        return states @ items.T + self.novelty * ~known

    def encode_histories(self, table: Tensor, batch: HistoryBatch, rows: Tensor | None = None) -> Tensor:
        """(M, D) states that are asked for, scaled so that their dot product with items is the score.

        table: (C, D) item vectors of catalog `rows` (C,), in which batch.history counts; without them of all.
        """
        vectors = table[batch.history]  # (B, T, D), or with text match (B, T, D + D_text)
        if rows is not None:
            batch = batch._replace(history=rows[batch.history])
        own = vectors[..., : self.config.dim]
        states = self.histories.encode(own, batch)
        if self.affinity is not None:
            states = states + self.affinity(own).flatten(0, 1)[batch.source]
        if self.cosine:
            states = functional.normalize(states, dim=-1) / self.log_temperature.exp().clamp(min=MIN_TEMPERATURE)
        if not self.items.match:
            return states
        near = self.items.match.history_states(vectors[..., self.config.dim :]).flatten(0, 1)[batch.source]
        return torch.cat([states, near], dim=1)

    def copy_calibration(self, other: RecommenderModel) -> None:
        """Take over what validation set in `other`: `novelty`, and text match where both have it."""
        self.novelty.copy_(other.novelty)
        if self.items.match is not None and other.items.match is not None:
            self.items.match.set_parameters(float(other.items.match.strength), float(other.items.match.recency))

    def forward(
        self,
        batch: HistoryBatch,
        rows: Tensor | None = None,
        live_rows: Tensor | None = None,
        live_text: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """States (M, D) of a batch's questions, and the items (C, D) at `rows` to score them against.

        batch.history counts in `rows`, which is the whole catalog where it is None.
        """
        table = self.items(rows, live_rows, live_text)
        return self.encode_histories(table, batch, rows), self.scoring_vectors(table)


def _make_history_encoder(config: ModelConfig, items: ItemEncoder, reader: CatalogEncoder | None) -> HistoryEncoder:
    if config.history_encoder == "sequence":
        return SequenceEncoder(config)
    if reader is None or items.adaptor is None:
        raise ValueError(f"history_encoder={config.history_encoder} needs a reader and item texts")
    if config.history_encoder == "backbone":
        return BackboneEncoder(config, reader)
    return TextEncoder(config, reader, items.adaptor)
