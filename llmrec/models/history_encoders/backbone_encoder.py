"""History encoder that feeds item vectors instead of words to a pretrained decoder.

One pass gives the state after every event. HLLM (Chen et al. 2024, arXiv:2409.12740) uses two language models. Here one
encodes both items and histories, so that one adapter holds all that was learned, and item vectors enter through a
projection that starts on the scale of the model's own word vectors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.model import ModelConfig
from llmrec.data.batches import HistoryBatch
from llmrec.errors import ConfigError
from llmrec.models.history_encoders.protocol import BackboneHistoryEncoder
from llmrec.utils.precision import upcast_to_fp32


class BackboneEncoder(BackboneHistoryEncoder):
    """Encoder of item vectors by a decoder.

    Args:
        config: Width, scales and maximum history.
        reader: Backbone and catalog.

    Raises:
        ConfigError: If the backbone is bidirectional, or has fewer positions than a history has events.
    """

    def __init__(self, config: ModelConfig, reader: CatalogEncoder) -> None:
        _check(config, reader)
        super().__init__(reader)
        words: Tensor = self.backbone.model.get_input_embeddings().weight.detach()  # type: ignore[operator]
        scale = float(words.std())
        self.enter = nn.Linear(config.dim, words.shape[1])
        nn.init.normal_(self.enter.weight, std=scale / (config.item_init_std * math.sqrt(config.dim)))
        nn.init.zeros_(self.enter.bias)
        self.start = nn.Parameter(torch.randn(words.shape[1]) * scale)  # the word of users without events
        self.leave = nn.Linear(self.backbone.hidden_width, config.dim)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, vectors: Tensor, batch: HistoryBatch) -> Tensor:
        """Encode the states of a batch's targets.

        Args:
            vectors: Item vectors of the histories, (B, T, D).
            batch: Histories and targets.

        Returns:
            States, (M, D).
        """
        every: Tensor = self(vectors)
        return every.flatten(0, 1)[batch.source]

    def forward(self, vectors: Tensor) -> Tensor:
        """Encode all states; no mask is needed, because padding is to the right of every state that is used.

        Args:
            vectors: Item vectors of the histories, (B, T, D).

        Returns:
            States, (B, T + 1, D).
        """
        size = len(vectors)
        if not size:  # a process without a share of the batch takes part in the gradients; decoders need a history
            vectors = vectors.new_zeros(1, *vectors.shape[1:])
        embedded = self.enter(self.dropout(vectors))
        words = torch.cat([self.start.expand(len(vectors), 1, -1), embedded], dim=1)  # (B, T + 1, D_words)
        hidden = self.backbone.model(inputs_embeds=words, use_cache=False).last_hidden_state  # (B, T + 1, D_hidden)
        result: Tensor = self.norm(self.leave(self.dropout(upcast_to_fp32(hidden))))
        return result[:size]


def _check(config: ModelConfig, reader: CatalogEncoder) -> None:
    # The states of a bidirectional encoder see later events, and with a causal mask it would be a model that was never
    # pretrained. It can encode histories as `text`.
    backbone, kind = reader.backbone, type(reader.backbone.model).__name__
    if not backbone.causal:
        raise ConfigError(
            f"model.history_encoder=backbone: {kind} of backbone.name={backbone.config.name!r} attends to later "
            "events, so that states see their targets. Name a decoder (GPT-2, SmolLM2, ...), or set "
            "model.history_encoder to text or sequence."
        )
    if config.max_history >= backbone.max_positions:
        raise ConfigError(
            f"model.max_history={config.max_history}: {kind} has {backbone.max_positions} positions, one of them for "
            f"the start. Set it to at most {backbone.max_positions - 1}."
        )
