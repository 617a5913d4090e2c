"""Token ids of texts: tokenized once, stored without padding and padded per batch."""

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
    """Tokens of N texts; those of text i are flat[offset[i]:offset[i + 1]]."""

    flat: NDArray[np.int32]
    """Token ids of all texts, one after another."""
    offset: NDArray[np.int64]
    """Position of the first token of each text, (N + 1,)."""
    pad_id: int
    """Token id of padding."""

    @classmethod
    def from_texts(
        cls, texts: Sequence[str], tokenizer: Any, max_tokens: int, *, append_eos: bool = False, special: bool = True
    ) -> TokenStore:
        """Tokenize texts.

        Args:
            texts: Texts, N of them.
            tokenizer: Tokenizer of the backbone.
            max_tokens: Maximum number of tokens of a text; longer texts are cut.
            append_eos: Whether each text ends in an EOS, which decoders need.
            special: Whether the tokenizer adds its BOS or CLS.

        Returns:
            The tokens.

        Raises:
            BackboneError: If an EOS is needed and the tokenizer has none.
        """
        eos = tokenizer.eos_token_id
        if append_eos and eos is None:
            raise BackboneError(
                f"tokenizer of {tokenizer.name_or_path!r}: no EOS token, in which the text of a decoder ends. Set its "
                "eos_token and save it again."
            )
        room = max_tokens - 1 if append_eos else max_tokens
        ids = _tokenize(list(texts), tokenizer, room, special=special) if texts else []
        if append_eos:
            ids = [row if row and row[-1] == eos else [*row, eos] for row in ids]
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        flat = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(lengths.sum()))
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), cls.get_pad_id(tokenizer))

    @staticmethod
    def get_pad_id(tokenizer: Any) -> int:
        """Return the token id of padding; any id will do, because the mask hides it.

        Args:
            tokenizer: Tokenizer of the backbone.

        Returns:
            Token id.
        """
        return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)

    def __len__(self) -> int:
        return len(self.offset) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each text, (N,)."""
        return np.diff(self.offset)

    def take(self, rows: NDArray[np.int64]) -> TokenStore:
        """Select some of the texts.

        Args:
            rows: Rows of the texts, (R,).

        Returns:
            The tokens of these texts.
        """
        lengths = self.lengths[rows]
        offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offset[-1]) - np.repeat(offset[:-1], lengths)
        return TokenStore(self.flat[np.repeat(self.offset[rows], lengths) + within], offset, self.pad_id)

    def append(self, other: TokenStore) -> TokenStore:
        """Append the tokens of other texts, each to the text in the same row.

        Args:
            other: Tokens of as many texts.

        Returns:
            The longer texts.
        """
        end, n = self.offset[-1], len(self)
        both = TokenStore(
            np.concatenate([self.flat, other.flat]), np.concatenate([self.offset, other.offset[1:] + end]), self.pad_id
        )
        mixed = both.take(np.arange(2 * n).reshape(2, n).T.ravel())
        return TokenStore(mixed.flat, mixed.offset[::2], self.pad_id)

    def get_batch(self, rows: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return a batch of texts, padded on the right to the longest.

        Args:
            rows: Rows of the texts, (U,).
            device: Device of the batch.

        Returns:
            input_ids and attention_mask, (U, L) each.
        """
        lengths = self.lengths[rows]
        steps = np.arange(max(int(lengths.max(initial=0)), 1))
        mask = steps < lengths[:, None]
        position = np.where(mask, self.offset[rows][:, None] + steps, 0)
        ids = np.where(mask, self.flat[position], self.pad_id).astype(np.int64)
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask.astype(np.int64)).to(device)


def _tokenize(texts: list[str], tokenizer: Any, most: int, *, special: bool) -> list[list[int]]:
    """Tokenize as the tokenizer's own call does, without its lists other than the ids, which take longer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer written in Python
        options = {"truncation": True, "max_length": most, "padding": False, "add_special_tokens": special}
        return tokenizer(texts, **options)["input_ids"]  # type: ignore[no-any-return]
    backend.no_padding()
    backend.enable_truncation(most, direction=tokenizer.truncation_side)
    return [row.ids for row in backend.encode_batch_fast(texts, add_special_tokens=special)]
