"""Item texts as token ids: tokenised once, kept without padding, padded per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.errors import BackboneError


@dataclass(frozen=True, slots=True)
class TokenStore:
    """flat: all ids in a row; offset: (N + 1,) so that text i is flat[offset[i]:offset[i + 1]]."""

    flat: NDArray[np.int32]
    offset: NDArray[np.int64]
    pad_id: int

    @classmethod
    def from_texts(
        cls, texts: Sequence[str], tokenizer: Any, max_tokens: int, append_eos: bool = False, special: bool = True
    ) -> TokenStore:
        """Tokenise and cut to `max_tokens`; decoders get an EOS to end on. special: with the tokenizer's BOS or CLS.

        Raises:
            BackboneError: an EOS is asked for, and the tokenizer has none.
        """
        eos = tokenizer.eos_token_id
        if append_eos and eos is None:
            raise BackboneError(
                f"the tokenizer of {tokenizer.name_or_path!r} has no EOS token, on which a decoder's text ends; set "
                "its eos_token and save it again"
            )
        room = max_tokens - 1 if append_eos else max_tokens
        ids = _tokenize(list(texts), tokenizer, room, special) if texts else []
        if append_eos:
            ids = [row if row and row[-1] == eos else [*row, eos] for row in ids]
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        flat = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(lengths.sum()))
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), cls.get_pad_id(tokenizer))

    @staticmethod
    def get_pad_id(tokenizer: Any) -> int:
        """The id to pad with; no mask looks at it, so that any does where the tokenizer has none."""
        return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)

    def __len__(self) -> int:
        return len(self.offset) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each text."""
        return np.diff(self.offset)

    def take(self, rows: NDArray[np.int64]) -> TokenStore:
        """The texts at `rows` alone."""
        lengths = self.lengths[rows]
        offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offset[-1]) - np.repeat(offset[:-1], lengths)
        return TokenStore(self.flat[np.repeat(self.offset[rows], lengths) + within], offset, self.pad_id)

    def get_batch(self, rows: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
        """input_ids and attention_mask (U, L) of the texts at `rows`, padded right to the longest."""
        lengths = self.lengths[rows]
        steps = np.arange(max(int(lengths.max(initial=0)), 1))
        mask = steps < lengths[:, None]
        position = np.where(mask, self.offset[rows][:, None] + steps, 0)
        ids = np.where(mask, self.flat[position], self.pad_id).astype(np.int64)
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask.astype(np.int64)).to(device)


def _tokenize(texts: list[str], tokenizer: Any, most: int, special: bool) -> list[list[int]]:
    """What the tokenizer's own call gives, whose lists beside the ids take longer to make than these."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # one that is written in Python
        options = {"truncation": True, "max_length": most, "padding": False, "add_special_tokens": special}
        return tokenizer(texts, **options)["input_ids"]  # type: ignore[no-any-return]
    backend.no_padding()
    backend.enable_truncation(most, direction=tokenizer.truncation_side)
    return [row.ids for row in backend.encode_batch_fast(texts, add_special_tokens=special)]
