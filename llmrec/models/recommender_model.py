"""Recommender model: item and history encoders as one module that scores items for histories."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
from llmrec.models.repeat_bias import RepeatBias
from llmrec.models.spectral_map import SpectralMap

MIN_TEMPERATURE = 0.01


class RecommenderModel(nn.Module):
    """Model whose scores are state . item; with cosine similarity, of unit vectors over a temperature.

    The temperature is learned.

    Args:
        config: Settings of the encoders.
        known: True for items with training events, (N,) bool.
        text: Text vectors of the catalog, (N, D_text); None for ids only.
        reader: Encoder of the catalog, needed if a backbone encodes histories. It is not part of this module, see
            `BackboneHistoryEncoder`.
        spectral: Map of text vectors that the item encoder starts from; None for none.
    """

    novelty: Tensor
    """Scalar added to the scores of items without a training event; calibration sets it after training."""

    def __init__(
        self,
        config: ModelConfig,
        known: Tensor,
        text: Tensor | None,
        *,
        reader: CatalogEncoder | None = None,
        spectral: SpectralMap | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.items = ItemEncoder(config, known, text, spectral=spectral)
        self.histories = _make_history_encoder(config, self.items, reader)
        self.affinity: ItemAffinity | None = None
        if config.item_affinity > 0:
            self.affinity = ItemAffinity(config.item_affinity * self.items.cosine_weights, config.dropout)
        self.repeats: RepeatBias | None = RepeatBias(len(known)) if config.repeat_bias else None
        self.register_buffer("novelty", torch.zeros(()))
        self.cosine = config.similarity == "cosine"
        if self.cosine:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))

    def scoring_vectors(self, table: Tensor) -> Tensor:
        """Return item vectors in the form that scores use; appended text vectors do not change.

        Args:
            table: Item vectors, (C, D), or with text similarity (C, D + D_text).

        Returns:
            Vectors of the same shape.
        """
        if not self.cosine:
            return table
        own = functional.normalize(table[:, : self.config.dim], dim=-1)
        return torch.cat([own, table[:, self.config.dim :]], dim=1)

    def score(self, states: Tensor, items: Tensor, known: Tensor) -> Tensor:
        """Score items for states.

        Args:
            states: States, (M, D).
            items: Item vectors of `scoring_vectors`, (C, D).
            known: True for items with training events, (C,).

        Returns:
            Scores, (M, C).
        """
        return states @ items.T + self.novelty * ~known

    def encode_histories(self, table: Tensor, batch: HistoryBatch, *, rows: Tensor | None = None) -> Tensor:
        """Encode the states of a batch's targets, scaled so that their dot product with items is the score.

        Args:
            table: Item vectors, (C, D).
            batch: Histories, B of them, as rows of `table`.
            rows: Catalog rows of `table`, (C,); None if it has the whole catalog.

        Returns:
            States, (M, D).
        """
        vectors = table[batch.history]  # (B, T, D), or with text match (B, T, D + D_text)
        if rows is not None:
            batch = batch._replace(history=rows[batch.history])
        own = vectors[..., : self.config.dim]
        single = None if self.training else batch.find_single_states()
        states = self.histories.encode(own, batch)
        if self.affinity is not None:
            states = states + _select_states(self.affinity(own, states=single), batch, single)
        if self.cosine:
            states = functional.normalize(states, dim=-1) / self.log_temperature.exp().clamp(min=MIN_TEMPERATURE)
        if not self.items.match:
            return states
        similar = self.items.match.history_states(vectors[..., self.config.dim :], states=single)
        return torch.cat([states, _select_states(similar, batch, single)], dim=1)

    def copy_calibration(self, other: RecommenderModel) -> None:
        """Copy the values that validation has set: `novelty`, and text similarity and repeats if both have them.

        The space that texts are compared in is copied if text vectors are as wide in both.

        Args:
            other: Model to copy from.
        """
        self.novelty.copy_(other.novelty)
        own, source = self.items.match, other.items.match
        if own is not None and source is not None:
            own.set_parameters(float(source.strength), float(source.recency))
            own.copy_space(source)
        if self.repeats is not None and other.repeats is not None:
            self.repeats.set_weights(other.repeats.weights)

    def extend(self, text: Tensor, texts: Sequence[str]) -> None:
        """Append items without training events, which are known by their text only.

        Args:
            text: Text vectors, (R, D_text).
            texts: The texts, (R,).
        """
        self.items.extend(text)
        self.histories.extend(texts)
        if self.repeats is not None:
            self.repeats.extend(len(text))

    def forward(
        self,
        batch: HistoryBatch,
        rows: Tensor | None = None,
        live_rows: Tensor | None = None,
        live_text: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the states of a batch's targets and the items to score them against.

        Args:
            batch: Histories as rows of `rows`, or of the catalog.
            rows: Catalog rows of the items, (C,); None for all.
            live_rows: Items whose text vectors carry gradients to the backbone, (R,).
            live_text: Text vectors of `live_rows`, (R, D_text).

        Returns:
            States, (M, D), and scoring vectors of the items, (C, D).
        """
        table = self.items(rows, live_rows, live_text)
        return self.encode_histories(table, batch, rows=rows), self.scoring_vectors(table)


def _select_states(states: Tensor, batch: HistoryBatch, single: Tensor | None) -> Tensor:
    """Return the states (M, D) of the targets, from all (B, T + 1, D) or from the `single` ones alone (B, 1, D)."""
    return states.flatten(0, 1)[batch.source] if single is None else states[:, 0]


def _make_history_encoder(config: ModelConfig, items: ItemEncoder, reader: CatalogEncoder | None) -> HistoryEncoder:
    if config.history_encoder == "sequence":
        return SequenceEncoder(config)
    if reader is None or items.adaptor is None:
        raise ValueError(f"history_encoder={config.history_encoder}: no catalog encoder or item texts. Give both.")
    if config.history_encoder == "backbone":
        return BackboneEncoder(config, reader)
    return TextEncoder(config, reader, items.adaptor)
