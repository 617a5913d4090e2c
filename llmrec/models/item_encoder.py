"""Text vector -> item vector, with a gated id residual that cold items do without.

v_i = W t_i + gate * known_i * e_i. `known_i` is 0 for items without a training event, and in training for a
random share of items (id dropout), so that warm and cold items are scored on one scale. Where `TextSimilarity` is on,
its unit vector of the text stands beside v_i.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmrec.config.model import ModelConfig
from llmrec.models.text_similarity import TextSimilarity


def fit_whitening(vectors: Tensor, dim: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weight (D_out, D_in) and bias (D_out,) that send `vectors` (N, D_in) to their top principal
    components with zero mean and standard deviation `scale`: PCA whitening in closed form. And each one's
    share (D_out,) of the variance of them all.
    """
    mean = vectors.mean(0)
    centred = (vectors - mean).double()
    values, directions = torch.linalg.eigh(centred.T @ centred / len(vectors))
    kept = min(dim, vectors.shape[1])
    values, directions = values[-kept:].flip(0), directions[:, -kept:].flip(1)
    floor = (values.max() * 1e-6).clamp(min=1e-10)  # directions without variance would otherwise be blown up
    weight = vectors.new_zeros(dim, vectors.shape[1])
    weight[:kept] = (scale * directions / values.clamp(min=floor).sqrt()).T.to(weight)
    share = vectors.new_zeros(dim)
    share[:kept] = (values / values.sum().clamp(min=1e-30)).to(share)
    return weight, -weight @ mean, share


class ItemEncoder(nn.Module):
    """Item vectors of a catalog of N items.

    text: (N, D_text) vectors of the backbone, or None for ids alone. known: (N,) bool, items with training events.
    cosine_weights: (D,) under which the dot product of two item vectors is about the cosine of their texts, or of
        their ids, to start with.
    """

    text: Tensor | None
    known: Tensor

    def __init__(self, config: ModelConfig, known: Tensor, text: Tensor | None) -> None:
        super().__init__()
        self.id_dropout = config.id_dropout
        self.register_buffer("known", known, persistent=False)
        self.register_buffer("text", text, persistent=False)
        scale = config.item_scale
        self.cosine_weights = torch.full((config.dim,), 1 / (config.dim * scale**2))
        self.adaptor: nn.Linear | None = None
        self.match: TextSimilarity | None = None
        if text is not None and config.text_match:
            self.match = TextSimilarity(text)
        if text is not None:
            self.adaptor = nn.Linear(text.shape[1], config.dim)
            if config.whiten:
                weight, bias, share = fit_whitening(text[known] if bool(known.any()) else text, config.dim, scale)
                self.adaptor.weight.data, self.adaptor.bias.data = weight, bias
                self.cosine_weights = share / scale**2
        self.ids: nn.Embedding | None = None
        if config.item_ids or text is None:
            self.ids = nn.Embedding(len(known), config.dim)
            nn.init.normal_(self.ids.weight, std=scale if text is None else scale * config.id_scale)
            self.gate = nn.Parameter(torch.ones(config.dim))

    def encode_text(self, text: Tensor) -> Tensor:
        """(C, D_text) -> (C, D), or with text match (C, D + D_text): items that are known by their text alone."""
        return self._append_similarity(self._adapt(text), text)

    def forward(
        self, rows: Tensor | None = None, live_rows: Tensor | None = None, live_text: Tensor | None = None
    ) -> Tensor:
        """Item vectors (C, D), or with text match (C, D + D_text), of `rows` (C,), increasing; of the whole catalog
        without them.

        The items `live_rows` (R,), all of them among `rows`, take their text vectors from `live_text` (R, D_text),
        which carry gradients to the backbone; all others come from the stored table.
        """
        shown = self.known if rows is None else self.known[rows]
        if self.text is None:
            return self._compute_residual(shown, rows)
        text = self.text if rows is None else self.text[rows]
        if live_rows is not None and live_text is not None:
            places = live_rows if rows is None else torch.searchsorted(rows, live_rows)
            text = text.index_copy(0, places, live_text.to(text))
        table = self._adapt(text)  # (C, D)
        if self.ids is not None:
            if self.training and self.id_dropout > 0:
                shown = shown & (torch.rand(shown.shape, device=shown.device) >= self.id_dropout)
            table = table + self._compute_residual(shown, rows)
        return self._append_similarity(table, text)

    @torch.no_grad()
    def extend(self, text: Tensor) -> None:
        """Append items (R, D_text) without training events: they are known by their text alone."""
        if self.text is None:
            raise ValueError("this model knows items by id alone and cannot read text")
        self.text = torch.cat([self.text, text.to(self.text)])
        self.known = torch.cat([self.known, self.known.new_zeros(len(text))])
        if self.ids is not None:
            unused = self.ids.weight.new_zeros(len(text), self.ids.embedding_dim)
            self.ids.weight = nn.Parameter(torch.cat([self.ids.weight, unused]))

    def _adapt(self, text: Tensor) -> Tensor:
        if self.adaptor is None:
            raise ValueError("this model knows items by id alone and cannot read text")
        vectors: Tensor = self.adaptor(text)
        return vectors

    def _append_similarity(self, table: Tensor, text: Tensor) -> Tensor:
        return torch.cat([table, self.match.item_vectors(text)], dim=-1) if self.match else table

    def _compute_residual(self, shown: Tensor, rows: Tensor | None) -> Tensor:
        """(C, D) id vectors behind their gate, 0 where `shown` (C,) is False."""
        if self.ids is None:
            raise ValueError("this model knows items by their text alone")
        ids = self.ids.weight if rows is None else self.ids(rows)
        return self.gate * ids * shown[:, None]
