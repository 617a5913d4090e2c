"""Tokens of item texts with a prompt around each, as a backbone reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.backbones.token_store import TokenStore
from llmrec.config.backbone import TEXT
from llmrec.errors import BackboneError


@dataclass(frozen=True)
class PromptedTexts:
    """Tokenizer of item texts that puts a prompt around each."""

    tokenizer: Any
    """Tokenizer of the model."""
    prompt: str
    """Prompt, with {text} in the place of a text."""
    max_tokens: int
    """Maximum number of tokens of a text with its prompt."""
    max_positions: int
    """Maximum number of tokens that the model takes."""
    is_echoed: bool = False
    """True if each text is given two times in a row."""
    is_read_at_end: bool = False
    """True if the vector is the state of the last token of a decoder."""

    @property
    def closing(self) -> str:
        """Text of the prompt after an item's, if a decoder is read at its end, as PromptEOL does.

        Source:
            Jiang et al. 2023, arXiv:2307.16645.
        """
        return self.prompt.split(TEXT, 1)[1] if self.is_read_at_end else ""

    def tokenize(self, texts: Sequence[str], *, append_eos: bool) -> TokenStore:
        """Tokenize texts.

        Args:
            texts: N texts.
            append_eos: End each text with an EOS; not if it is echoed or closed by the prompt.

        Returns:
            Tokens of the texts, cut to `max_tokens`.

        Raises:
            BackboneError: If the end of the prompt leaves no room for a text.
        """
        if self.is_echoed:
            return self._tokenize_twice(texts)
        if self.closing:
            return self._tokenize_closed(texts)
        return TokenStore.from_texts(self._add_prompts(texts), self.tokenizer, self.max_tokens, append_eos=append_eos)

    def _add_prompts(self, texts: Sequence[str]) -> list[str]:
        return [self.prompt.replace(TEXT, text) for text in texts]

    def _tokenize_twice(self, texts: Sequence[str]) -> TokenStore:
        """Tokenize each text two times in a row, the second time without special tokens."""
        prompted = self._add_prompts(texts)
        most, special = min(self.max_tokens, self.max_positions // 2), self.tokenizer.num_special_tokens_to_add()
        first = TokenStore.from_texts(prompted, self.tokenizer, most)
        return first.append(TokenStore.from_texts(prompted, self.tokenizer, most - special, special=False))

    def _tokenize_closed(self, texts: Sequence[str]) -> TokenStore:
        """Tokenize texts with the end of the prompt, which is kept where a text is cut."""
        before, after = self.prompt.split(TEXT, 1)
        closing = TokenStore.from_texts([after], self.tokenizer, self.max_positions, special=False)
        room = self.max_tokens - len(closing.flat)
        if room < 2:
            raise BackboneError(
                f"backbone.max_tokens={self.max_tokens}: the end of backbone.prompt alone has {len(closing.flat)} "
                "tokens. Give more, or a shorter prompt."
            )
        opened = TokenStore.from_texts([before + text for text in texts], self.tokenizer, room)
        return opened.append(closing.take(np.zeros(len(texts), dtype=np.int64)))


def read_tokenizer_bytes(tokenizer: Any) -> bytes:
    """Return everything that the tokens of a text depend on.

    Args:
        tokenizer: Tokenizer of transformers.

    Returns:
        Its rules as JSON.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()
    rules = json.loads(backend.to_str())
    rules.update(truncation=None, padding=None)  # the last call's, not the tokenizer's
    return json.dumps(rules, sort_keys=True).encode()
