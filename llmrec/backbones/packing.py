"""Packing of texts into one row without padding, (1, T) tokens, with attention within each text.

All layers but attention work token by token, whatever the texts. Attention takes texts of equal length together as a
batch, without a mask; sorted by length, a row holds a few such runs. The only padding is the few tokens that bring a
row to a round length, because oneDNN prepares itself (1-2 ms) for each new length.

Works with encoders and decoders through transformers' AttentionInterface, which requires that the architecture takes
`position_ids` and lets attention be exchanged. The caller checks that the result is right.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmrec.backbones.linear_kernels import Arithmetic, replace_linear_layers
from llmrec.backbones.token_store import TokenStore

ATTENTION = "llmrec_runs"
TOKENS_AT_ONCE = 2048  # the fastest of 512, 1024 and 2048
ROUND = 64  # tokens; rows are filled up to a multiple


class PackingError(ValueError):
    """An architecture that cannot encode packed rows."""


@dataclass(frozen=True)
class EqualLengthRun:
    """Consecutive texts of equal length."""

    n: int
    """Number of texts."""
    length: int
    """Tokens of each text."""


class PackedModel:
    """Copy of a model that encodes packed rows of texts.

    The copy shares the weights, or holds them in another type.

    Args:
        model: Model of transformers, with or without an adapter.
        arithmetic: Type of the weights, and method to compute linear layers.

    Raises:
        PackingError: If the architecture cannot encode packed rows.
    """

    def __init__(self, model: nn.Module, arithmetic: Arithmetic) -> None:
        adapted: Any = model
        base: Any = adapted.get_base_model() if hasattr(model, "get_base_model") else model
        if "position_ids" not in inspect.signature(base.forward).parameters:
            raise PackingError(f"{type(base).__name__} takes no position_ids")
        self.model: Any = copy_as_dtype(arithmetic.dtype, adapted)
        _register_attention()
        self.model.set_attn_implementation(ATTENTION)
        if self.model.config._attn_implementation != ATTENTION:
            raise PackingError(f"{type(base).__name__} does not let its attention be exchanged")
        self.model.config.use_cache = False
        self.first_position = _get_first_position(self.model)
        replace_linear_layers(self.model, arithmetic)

    def encode(self, tokens: TokenStore) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Encode all texts, and yield them in groups of equal length.

        Args:
            tokens: Tokens of N texts.

        Yields:
            Rows (n,) of `tokens` with the same length L, and their hidden states (n, L, D).
        """
        for rows in pack_rows(tokens.lengths, TOKENS_AT_ONCE):
            texts = tokens.take(rows)
            each, counts = np.unique(texts.lengths, return_counts=True)
            runs = [EqualLengthRun(n, length) for n, length in zip(counts.tolist(), each.tolist(), strict=True)]
            filling = -len(texts.flat) % ROUND
            ids = np.concatenate([texts.flat, np.full(filling, tokens.pad_id, np.int32)])
            hidden, start = self._compute_hidden(ids, [*runs, *([EqualLengthRun(1, filling)] if filling else [])]), 0
            for run in runs:
                size = run.n * run.length
                yield rows[: run.n], hidden[start : start + size].view(run.n, run.length, -1)
                rows, start = rows[run.n :], start + size

    def _compute_hidden(self, ids: NDArray[np.int32], runs: list[EqualLengthRun]) -> Tensor:
        """Compute hidden states, (T,) ids -> (T, D)."""
        positions = np.concatenate([np.tile(np.arange(run.length), run.n) for run in runs]) + self.first_position
        row, places = torch.from_numpy(ids.astype(np.int64))[None], torch.from_numpy(positions)[None]
        hidden: Tensor = self.model(input_ids=row, position_ids=places, runs=runs).last_hidden_state[0]
        return hidden


def copy_as_dtype(dtype: torch.dtype, model: nn.Module) -> Any:
    """Copy a model with weights of another type, which do not train.

    Args:
        dtype: Type of the weights; those that have it already share memory with the original.
        model: Model to copy.

    Returns:
        Copy of the model.
    """
    weights = {
        id(weight): nn.Parameter(weight.detach().to(dtype), requires_grad=False) for weight in model.parameters()
    }
    buffers = {id(buffer): buffer for buffer in model.buffers()}  # always in fp32: rotary angles need it
    return copy.deepcopy(model, weights | buffers)


def pack_rows(lengths: NDArray[np.int64], tokens_at_once: int) -> list[NDArray[np.int64]]:
    """Sort texts by length and cut them into rows.

    Args:
        lengths: Tokens of each text, (N,).
        tokens_at_once: Maximum number of tokens in a row, unless one text is longer.

    Returns:
        Positions of the texts in each row.
    """
    order = np.argsort(lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    rows, start = [], 0
    while start < len(order):
        before = ends[start - 1] if start else 0
        end = max(int(np.searchsorted(ends, before + tokens_at_once, side="right")), start + 1)
        rows.append(order[start:end])
        start = end
    return rows


def _get_first_position(model: nn.Module) -> int:
    """Return the first position of a text; RoBERTa and its relatives start after that of the padding."""
    for name, part in model.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            return int(part.padding_idx) + 1
    return 0


def _register_attention() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, run_packed_attention)


def run_packed_attention(  # noqa: PLR0917 as transformers calls it
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    runs: list[EqualLengthRun],
    **options: Any,
) -> tuple[Tensor, None]:
    """Apply transformers' own attention to each run of texts by itself.

    Args:
        module: Attention layer.
        query: Queries, (1, H, T, d).
        key: Keys, (1, heads, T, d).
        value: Values, (1, heads, T, d).
        attention_mask: Not used; attention within a run needs no mask.
        runs: Runs of texts, T tokens together.
        **options: Options of transformers' attention.

    Returns:
        Attended values, (1, T, H, d), and None for the attention weights.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    inside, parts, start = ALL_ATTENTION_FUNCTIONS["sdpa"], [], 0
    for run in runs:
        end = start + run.n * run.length
        texts = [torch.unflatten(x[0, :, start:end], 1, (run.n, run.length)) for x in (query, key, value)]
        seen = inside(module, *(x.transpose(0, 1) for x in texts), None, **options)[0]  # (n, L, H, d)
        parts.append(seen.flatten(0, 1))
        start = end
    return torch.cat(parts)[None], None
