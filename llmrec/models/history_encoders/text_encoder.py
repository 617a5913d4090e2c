"""History encoder that encodes a history as one text with the backbone, which may be of any kind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.token_store import TokenStore
from llmrec.config.model import ModelConfig
from llmrec.data.batches import HistoryBatch
from llmrec.models.history_encoders.history_texts import HistoryTexts
from llmrec.models.history_encoders.protocol import BackboneHistoryEncoder


# Each state costs a text: the states of a batch are encoded once each, and training uses a few of each history only
# (`history_text.targets_per_history`).
class TextEncoder(BackboneHistoryEncoder):
    """Encoder that projects the pooled vector of a history's text to the user's state.

    Args:
        config: Width, dropout and settings of the texts.
        reader: Backbone and catalog.
        adaptor: Projection of item texts, D_text to D; the projection of histories starts as a copy, so that a history
            that reads like an item is near it.

    Source:
        RecFormer: Li et al. 2023, arXiv:2305.13731.
    """

    def __init__(self, config: ModelConfig, reader: CatalogEncoder, adaptor: nn.Linear) -> None:
        self.config = config.history_text
        super().__init__(reader)
        self.project = nn.Linear(adaptor.in_features, adaptor.out_features)
        self.project.load_state_dict(adaptor.state_dict())
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def attach_encoder(self, reader: CatalogEncoder) -> None:
        """Set the backbone that encodes histories, and tokenize the texts of its catalog.

        Args:
            reader: Backbone and catalog.
        """
        super().attach_encoder(reader)
        self.texts = HistoryTexts(self.config, reader.backbone, reader.texts)

    def extend(self, texts: Sequence[str]) -> None:
        """Append items to the catalog.

        Args:
            texts: Texts of the new items.
        """
        self.texts.extend(texts)

    def encode(self, vectors: Tensor, batch: HistoryBatch) -> Tensor:
        """Encode the states of a batch's targets.

        Args:
            vectors: Item vectors of the histories, (B, T, D); only their shape is used.
            batch: Histories and targets.

        Returns:
            States, (M, D).
        """
        sources, place = torch.unique(batch.source, return_inverse=True)  # events of one moment share a state
        steps, history = vectors.shape[1] + 1, batch.history.cpu().numpy()
        where = [divmod(source, steps) for source in sources.tolist()]
        read = self._read(self.texts.build_texts([history[row, :state] for row, state in where]))  # (U, D_text)
        states: Tensor = self.dropout(self.norm(self.project(read.to(vectors.device))))
        return states[place]

    def _read(self, tokens: TokenStore) -> Tensor:
        """Encode texts as vectors (U, D_text), with gradients if the backbone trains."""
        trains = any(weight.requires_grad for weight in self.backbone.parameters())
        if not trains and not self.training and self.reader.cache is not None:
            return self.reader.cache.get_history_vectors(tokens)
        if not trains or not torch.is_grad_enabled():
            return self.backbone.encode(tokens)
        return self.backbone.encode_with_grad(tokens)
