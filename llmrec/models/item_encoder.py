"""Encoder of text vectors as item vectors, with a gated id residual that is 0 for cold items.

v_i = W t_i + gate * known_i * e_i. `known_i` is 0 for items without a training event, and in training for a random
share of items (id dropout), so that warm and cold items are scored on one scale. If `TextSimilarity` is on, its unit
vector of the text is appended to v_i.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmrec.config.model import ModelConfig
from llmrec.models.spectral_map import SpectralMap
from llmrec.models.text_similarity import TextSimilarity


def fit_whitening(vectors: Tensor, dim: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a PCA whitening in closed form: zero mean and standard deviation `scale` on the top components.

    Args:
        vectors: Vectors, (N, D_in).
        dim: Number of components, D_out.
        scale: Standard deviation of each component.

    Returns:
        Weight, (D_out, D_in), bias, (D_out,), and share of the total variance of each component, (D_out,).
    """
    mean = vectors.mean(0)
    centered = (vectors - mean).double()
    values, directions = torch.linalg.eigh(centered.T @ centered / len(vectors))
    kept = min(dim, vectors.shape[1])
    values, directions = values[-kept:].flip(0), directions[:, -kept:].flip(1)
    floor = (values.max() * 1e-6).clamp(min=1e-10)  # otherwise directions without variance would be amplified
    weight = vectors.new_zeros(dim, vectors.shape[1])
    weight[:kept] = (scale * directions / values.clamp(min=floor).sqrt()).T.to(weight)
    share = vectors.new_zeros(dim)
    share[:kept] = (values / values.sum().clamp(min=1e-30)).to(share)
    return weight, -weight @ mean, share


class ItemEncoder(nn.Module):
    """Item vectors of a catalog of N items.

    With `cosine_weights` (D,), the dot product of two item vectors is initially about the cosine of their texts, or of
    their ids.

    Args:
        config: Width, scales, whitening, ids and text similarity.
        known: True for items with training events, (N,) bool.
        text: Text vectors of the backbone, (N, D_text); None for ids only.
        spectral: Map that the adaptor starts as, and by which texts are compared; None for none.
    """

    text: Tensor | None
    """Text vectors of the backbone, (N, D_text); None for ids only."""
    known: Tensor
    """Mask of items with training events, (N,) bool."""

    def __init__(
        self, config: ModelConfig, known: Tensor, text: Tensor | None, *, spectral: SpectralMap | None = None
    ) -> None:
        super().__init__()
        self.id_dropout = config.id_dropout
        self.register_buffer("known", known, persistent=False)
        self.register_buffer("text", text, persistent=False)
        scale = config.item_init_std
        self.cosine_weights = torch.full((config.dim,), 1 / (config.dim * scale**2))
        self.adaptor: nn.Linear | None = None
        self.match: TextSimilarity | None = None
        if text is not None and config.text_similarity:
            self.match = TextSimilarity(text)
            if spectral is not None:
                self.match.set_map(spectral.matrix)
        if text is not None:
            self.adaptor = nn.Linear(text.shape[1], config.dim)
            if config.adaptor_start != "random":
                if spectral is None:
                    start = fit_whitening(text[known] if bool(known.any()) else text, config.dim, scale)
                else:
                    start = spectral.make_adaptor(config.dim, scale)
                self.adaptor.weight.data, self.adaptor.bias.data = start[0], start[1]
                self.cosine_weights = start[2] / scale**2
        self.ids: nn.Embedding | None = None
        if config.use_item_ids or text is None:
            self.ids = nn.Embedding(len(known), config.dim)
            nn.init.normal_(self.ids.weight, std=scale if text is None else scale * config.id_init_scale)
            self.gate = nn.Parameter(torch.ones(config.dim))

    def encode_text(self, text: Tensor) -> Tensor:
        """Encode items that are known by their text only.

        Args:
            text: Text vectors, (C, D_text).

        Returns:
            Item vectors, (C, D), or with text similarity (C, D + D_text).
        """
        return self._append_similarity(self._adapt(text), text)

    def forward(
        self, rows: Tensor | None = None, live_rows: Tensor | None = None, live_text: Tensor | None = None
    ) -> Tensor:
        """Return the item vectors of some rows, or of the whole catalog.

        Args:
            rows: Catalog rows, increasing, (C,); None for all items.
            live_rows: Items whose text vectors carry gradients to the backbone, all among `rows`, (R,).
            live_text: Text vectors of `live_rows`, (R, D_text); all other items use the stored table.

        Returns:
            Item vectors, (C, D), or with text similarity (C, D + D_text).
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
        """Append items without training events, which are known by their text only.

        Args:
            text: Text vectors, (R, D_text).

        Raises:
            ValueError: If the model has ids only.
        """
        if self.text is None:
            raise ValueError("this model has item ids only and cannot encode text. Give it text vectors.")
        self.text = torch.cat([self.text, text.to(self.text)])
        self.known = torch.cat([self.known, self.known.new_zeros(len(text))])
        if self.ids is not None:
            unused = self.ids.weight.new_zeros(len(text), self.ids.embedding_dim)
            self.ids.weight = nn.Parameter(torch.cat([self.ids.weight, unused]))

    def _adapt(self, text: Tensor) -> Tensor:
        if self.adaptor is None:
            raise ValueError("this model has item ids only and cannot encode text. Give it text vectors.")
        vectors: Tensor = self.adaptor(text)
        return vectors

    def _append_similarity(self, table: Tensor, text: Tensor) -> Tensor:
        return torch.cat([table, self.match.item_vectors(text)], dim=-1) if self.match else table

    def _compute_residual(self, shown: Tensor, rows: Tensor | None) -> Tensor:
        """Return gated id vectors (C, D), 0 where `shown` (C,) is False."""
        if self.ids is None:
            raise ValueError("this model has no item ids. Set use_item_ids.")
        ids = self.ids.weight if rows is None else self.ids(rows)
        return self.gate * ids * shown[:, None]
