"""A backbone at work on a catalog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.backbones.hidden_state_cache import LowerStates
from llmrec.backbones.text_backbone import Backbone
from llmrec.backbones.text_vector_cache import TextCache
from llmrec.backbones.token_store import Tokens


@dataclass(frozen=True)
class Reader:
    """A backbone, and the catalog in its tokens.

    texts: of the items, which histories that are read as text are made of. cache: keeps what a frozen backbone makes of
    them in evaluations; without one nothing of a history outlasts its query. lower: what the layers below those that
    train make of the catalog.
    """

    backbone: Backbone
    tokens: Tokens
    texts: Sequence[str] = ()
    cache: TextCache | None = None
    lower: LowerStates | None = None

    @classmethod
    def of(cls, backbone: Backbone, texts: Sequence[str], cache: TextCache | None = None) -> Reader:
        return cls(backbone, backbone.tokens(texts), texts, cache)

    def ahead(self) -> Reader:
        """The same, with the layers that do not train run once over the catalog, or taken from disk."""
        return replace(self, lower=LowerStates.of(self.backbone, self.tokens, self.backbone.config.kept_states))

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Vectors (R, D_text) of the items at `rows` (R,), with gradients to the weights that train."""
        return self.backbone.read(self.tokens.take(rows), self.lower.take(rows) if self.lower else None)

    @torch.no_grad()
    def encode(self, rows: NDArray[np.int64], describe: str | None = None) -> Tensor:
        """The same without gradients, on the CPU; `describe` names a progress bar."""
        if self.lower is None:
            return self.backbone.encode(self.tokens.take(rows), describe)
        return self.read(rows).cpu()
