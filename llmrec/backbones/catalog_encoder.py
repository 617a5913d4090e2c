"""Backbone together with the catalog that it encodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.backbones.hidden_state_cache import HiddenStateCache
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.backbones.token_store import TokenStore


@dataclass(frozen=True)
class CatalogEncoder:
    """Backbone and the tokens of a catalog's texts."""

    backbone: TextBackbone
    """Backbone that encodes the texts."""
    tokens: TokenStore
    """Tokens of the N item texts."""
    texts: Sequence[str] = ()
    """Item texts, from which histories are built if they are encoded as text."""
    cache: TextVectorCache | None = None
    """Cache of the history vectors of a frozen backbone in evaluations; None stores nothing."""
    lower: HiddenStateCache | None = None
    """Cached outputs of the layers below those that train; None without such a cache."""

    @classmethod
    def from_texts(
        cls, backbone: TextBackbone, texts: Sequence[str], *, cache: TextVectorCache | None = None
    ) -> CatalogEncoder:
        """Tokenize the texts of a catalog.

        Args:
            backbone: Backbone that encodes the texts.
            texts: Item texts.
            cache: Cache of history vectors; None stores nothing.

        Returns:
            The encoder.
        """
        return cls(backbone, backbone.tokenize(texts), texts, cache)

    def with_hidden_state_cache(self) -> CatalogEncoder:
        """Return the encoder with cached outputs of the layers that do not train, computed or read from disk.

        Returns:
            Encoder with a `HiddenStateCache`.
        """
        return replace(
            self,
            lower=HiddenStateCache.load_or_compute(
                self.backbone, self.tokens, kept=self.backbone.config.hidden_state_cache
            ),
        )

    def encode_with_grad(self, rows: NDArray[np.int64]) -> Tensor:
        """Encode items with gradients to the weights that train.

        Args:
            rows: Catalog rows, (R,).

        Returns:
            Text vectors, (R, D_text).
        """
        return self.backbone.encode_with_grad(self.tokens.take(rows), self.lower.take(rows) if self.lower else None)

    @torch.no_grad()
    def encode(self, rows: NDArray[np.int64], describe: str | None = None) -> Tensor:
        """Encode items without gradients.

        Args:
            rows: Catalog rows, (R,).
            describe: Title of a progress bar; None shows none.

        Returns:
            Text vectors on the CPU, (R, D_text).
        """
        if self.lower is None:
            return self.backbone.encode(self.tokens.take(rows), describe)
        return self.encode_with_grad(rows).cpu()
