"""A backbone at work on a catalog."""

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
    """A backbone, and the catalog in its tokens.

    texts: of the items, which histories that are read as text are made of. cache: keeps what a frozen backbone makes of
    them in evaluations; without one nothing of a history outlasts its query. lower: what the layers below those that
    train make of the catalog.
    """

    backbone: TextBackbone
    tokens: TokenStore
    texts: Sequence[str] = ()
    cache: TextVectorCache | None = None
    lower: HiddenStateCache | None = None

    @classmethod
    def from_texts(
        cls, backbone: TextBackbone, texts: Sequence[str], cache: TextVectorCache | None = None
    ) -> CatalogEncoder:
        return cls(backbone, backbone.tokenize(texts), texts, cache)

    def with_hidden_state_cache(self) -> CatalogEncoder:
        """The same, with the layers that do not train run once over the catalog, or taken from disk."""
        return replace(
            self, lower=HiddenStateCache.load_or_compute(self.backbone, self.tokens, self.backbone.config.kept_states)
        )

    def encode_with_grad(self, rows: NDArray[np.int64]) -> Tensor:
        """Vectors (R, D_text) of the items at `rows` (R,), with gradients to the weights that train."""
        return self.backbone.encode_with_grad(self.tokens.take(rows), self.lower.take(rows) if self.lower else None)

    @torch.no_grad()
    def encode(self, rows: NDArray[np.int64], describe: str | None = None) -> Tensor:
        """The same without gradients, on the CPU; `describe` names a progress bar."""
        if self.lower is None:
            return self.backbone.encode(self.tokens.take(rows), describe)
        return self.encode_with_grad(rows).cpu()
