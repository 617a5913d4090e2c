"""Causal transformer over item vectors: one pass gives the state after every event of a history.

Position enters as a learned bias on attention (by distance, and optionally by elapsed time) and as an embedding counted
from the newest event. A start token is the state of a user without history. Item vectors come from outside, so that
text and ids share one encoder.

Source:
    SASRec: Kang & McAuley 2018, arXiv:1808.09781. Gated blocks: LiGR, Borisyuk et al. 2025, arXiv:2502.03417.
    Time buckets: HSTU, Zhai et al. 2024, arXiv:2402.17152.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.config.model import ModelConfig
from llmrec.data.batches import HistoryBatch
from llmrec.models.history_encoders.protocol import HistoryEncoder

N_TIME_BUCKETS = 64


class TimeBias(nn.Module):
    """Bias of attention by elapsed time in log-spaced buckets; the start token has a bucket of its own.

    Args:
        heads: Number of attention heads, H.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(N_TIME_BUCKETS, heads)
        nn.init.zeros_(self.bias.weight)

    def forward(self, query_time: Tensor, event_time: Tensor) -> Tensor:
        """Return the bias of each pair of a state and an event.

        Args:
            query_time: Query time of each of S states in seconds, (B, S).
            event_time: Event times in seconds, (B, T).

        Returns:
            Bias, (B, H, S, T + 1).
        """
        elapsed = (query_time[:, :, None] - event_time[:, None, :]).clamp(min=0)  # (B, S, T)
        bucket = ((elapsed + 1).float().log2() * 2).long().clamp(max=N_TIME_BUCKETS - 2)
        bucket = functional.pad(bucket, (1, 0), value=N_TIME_BUCKETS - 1)  # (B, S, T + 1)
        table = self.bias.weight.T  # (H, buckets); the gradient of gather takes a tenth of the time of an embedding's
        bias = table.gather(1, bucket.view(1, -1).expand(len(table), -1))
        return bias.view(len(table), *bucket.shape).transpose(0, 1)


class Block(nn.Module):
    """Transformer block with pre-norm attention and feed-forward; `ligr` gates each branch by its input.

    Args:
        config: Width, heads and kind of block.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, self.heads, self.gated = config.dim, config.n_heads, config.block == "ligr"
        self.attention_norm, self.feed_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        width = config.feedforward_multiplier * dim
        self.up, self.down = nn.Linear(dim, width), nn.Linear(width, dim)
        self.dropout = nn.Dropout(config.dropout)
        if self.gated:
            self.attention_gate, self.feed_gate = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def attend(self, x: Tensor, bias: Tensor, *, states: Tensor | None = None) -> Tensor:
        """Apply attention.

        Args:
            x: Hidden states, (B, T, D).
            bias: Bias that broadcasts to (B, H, S, T); -inf where a state must not attend.
            states: The only place of each row to compute, (B,); None for all.

        Returns:
            Attended values, (B, S, D), where S is 1 with `states` and T without.
        """
        batch, steps, dim = x.shape
        q, k, v = self.qkv(x).view(batch, steps, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        if states is not None:
            q = q[torch.arange(batch, device=x.device), :, states, None]  # (B, H, 1, D / H)
        weight = (q @ k.transpose(-1, -2) / math.sqrt(dim // self.heads) + bias).softmax(-1)  # (B, H, S, T)
        mixed = self.dropout(weight) @ v
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, mixed.shape[2], dim))
        return result

    def forward(self, x: Tensor, bias: Tensor, *, states: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            x: Hidden states, (B, T, D).
            bias: Bias that broadcasts to (B, H, S, T).
            states: The only place of each row to compute, (B,); None for all.

        Returns:
            Hidden states, (B, S, D), where S is 1 with `states` and T without.
        """
        attended = self.dropout(self.attend(self.attention_norm(x), bias, states=states))
        if states is not None:
            x = x[torch.arange(len(x), device=x.device), states, None]  # (B, 1, D)
        x = x + (torch.sigmoid(self.attention_gate(x)) * attended if self.gated else attended)
        fed = self.dropout(self.down(self.dropout(functional.gelu(self.up(self.feed_norm(x))))))
        result: Tensor = x + (torch.sigmoid(self.feed_gate(x)) * fed if self.gated else fed)
        return result


class SequenceEncoder(HistoryEncoder):
    """Encoder of item vectors by a causal transformer.

    Args:
        config: Settings; `max_history` is the maximum T.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(config.dim) * 0.02)
        self.position = nn.Embedding(config.max_history + 1, config.dim)
        nn.init.normal_(self.position.weight, std=0.02)
        self.distance_bias = nn.Parameter(torch.zeros(config.n_heads, config.max_history + 1))
        self.time_bias = TimeBias(config.n_heads) if config.time_bias else None
        self.input_norm = nn.LayerNorm(config.dim) if config.input_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.dim)

    def encode(self, vectors: Tensor, batch: HistoryBatch) -> Tensor:
        """Encode the states of a batch's targets.

        Args:
            vectors: Item vectors of the histories, (B, T, D).
            batch: Histories and targets.

        Returns:
            States, (M, D).
        """
        # The last block computes only states that are read, except in training, where random numbers depend on all.
        single = None if self.training else batch.find_single_states()
        states: Tensor = self(vectors, batch, single=single)
        return states.flatten(0, 1)[batch.source] if single is None else states[:, 0]

    def forward(self, vectors: Tensor, batch: HistoryBatch, *, single: Tensor | None = None) -> Tensor:
        """Encode all states, or a single one of each history.

        Args:
            vectors: Item vectors of the histories, (B, T, D).
            batch: Histories, with their mask and times.
            single: The only state of each history to encode, (B,); None for all.

        Returns:
            States, (B, T + 1, D), or (B, 1, D) with `single`.
        """
        size, steps, dim = vectors.shape
        x = torch.cat([self.start.expand(size, 1, dim), vectors], dim=1)  # (B, T + 1, D)
        from_newest = batch.history_mask.sum(1, keepdim=True) - torch.arange(steps + 1, device=x.device)
        x = self.dropout(self.input_norm(x + self.position(from_newest.clamp(min=0))))
        complete = self.blocks if single is None else self.blocks[:-1]
        bias = self._build_bias(batch, torch.arange(steps + 1, device=x.device)[None]) if len(complete) else None
        for block in complete:
            x = block(x, bias)
        if single is not None:
            x = self._encode_single(x, batch, single)
        result: Tensor = self.norm(x)
        return result

    def _encode_single(self, x: Tensor, batch: HistoryBatch, single: Tensor) -> Tensor:
        """Return the states (B, 1, D) of `single` (B,) after the last block, from all states before it."""
        if not len(self.blocks):
            return x[torch.arange(len(x), device=x.device), single, None]
        result: Tensor = self.blocks[-1](x, self._build_bias(batch, single[:, None]), states=single)
        return result

    def _build_bias(self, batch: HistoryBatch, states: Tensor) -> Tensor:
        """Build the causal mask plus distance and time biases of states (B or 1, S), (B or 1, H, S, T + 1).

        Padding is to the right of every used state.
        """
        n_states = batch.query_time.shape[1]
        distance = states[..., None] - torch.arange(n_states, device=states.device)  # (B or 1, S, T + 1)
        bias = self.distance_bias[:, distance.clamp(min=0)].transpose(0, 1)  # (B or 1, H, S, T + 1)
        if self.time_bias is not None:
            query_time = batch.query_time.gather(1, states.expand(len(batch.query_time), -1))
            bias = bias + self.time_bias(query_time, batch.event_time)
        return bias.masked_fill((distance < 0)[:, None], float("-inf"))
