"""Histories as texts: items one after another, the newest last, within a limit of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.token_store import TokenStore
from llmrec.config.model import HISTORY, HistoryTextConfig
from llmrec.errors import ConfigError, DataError

Ids = NDArray[np.int32]
MIN_TEXT_TOKENS = 8  # tokens; minimum room for items


class HistoryTexts:
    """Tokens of item texts, joined to one text for each history.

    Each item has at most `backbone.max_tokens` tokens, as when it is encoded by itself. If a history is longer than the
    limit, its oldest items are left out; only an item that is longer than the limit by itself is cut, at its end.

    Args:
        config: Prompt, separator and limit of tokens.
        backbone: Backbone that encodes the texts.
        texts: Item texts of the catalog.

    Raises:
        ConfigError: If the limit exceeds the backbone's positions, leaves no room for items next to the prompt, or the
            backbone reads texts twice.
    """

    def __init__(self, config: HistoryTextConfig, backbone: TextBackbone, texts: Sequence[str]) -> None:
        self.config, self.tokenizer, self.max_item = config, backbone.tokenizer, backbone.config.max_tokens
        if backbone.pooling == "echo":
            raise ConfigError(
                "backbone.pooling=echo: it reads item texts twice, not histories. Give model.history_encoder sequence."
            )
        opening, closing = _get_special_tokens(backbone)
        before, after = config.prompt.split(HISTORY)
        self.before = np.array([*opening, *self._tokenize(before)], dtype=np.int32)
        self.after = np.array([*self._tokenize(after), *closing], dtype=np.int32)
        self.room = config.max_tokens - len(self.before) - len(self.after)
        if config.max_tokens > backbone.max_positions:
            raise ConfigError(
                f"model.history_text.max_tokens={config.max_tokens}: {backbone.config.name!r} takes "
                f"{backbone.max_positions} tokens at most. Set it to that or less."
            )
        if self.room < MIN_TEXT_TOKENS:
            raise ConfigError(
                f"model.history_text.max_tokens={config.max_tokens}: model.history_text.prompt leaves {self.room} "
                f"tokens for items. Set it to at least {config.max_tokens - self.room + MIN_TEXT_TOKENS}."
            )
        self.separator = np.array(self._tokenize(config.separator), dtype=np.int32)
        self.items: list[Ids] = []
        self.extend(texts)

    def extend(self, texts: Sequence[str]) -> None:
        """Append items to the catalog.

        Args:
            texts: Texts of the new items.
        """
        self.items += [np.concatenate([ids, self.separator]) for ids in self._iterate_items(texts)]

    def build_texts(self, histories: Sequence[NDArray[np.int64]]) -> TokenStore:
        """Build one text for each history.

        Args:
            histories: Catalog rows of each history, oldest first.

        Returns:
            Tokens of the texts.

        Raises:
            DataError: If an item is not in the catalog.
        """
        texts = [self._join_rows(rows) for rows in histories]
        offset = np.cumsum([0, *(len(ids) for ids in texts)]).astype(np.int64)
        return TokenStore(
            np.concatenate([np.zeros(0, np.int32), *texts]), offset, TokenStore.get_pad_id(self.tokenizer)
        )

    def _join_rows(self, rows: NDArray[np.int64]) -> Ids:
        kept: list[Ids] = []
        left = self.room
        for row in rows[::-1]:
            if row >= len(self.items):
                raise DataError("history", ["an item is in no catalog, but the history is read as text. "
                                            "Add it first with catalog.add."])  # fmt: skip
            item = self.items[row]
            if len(item) > left:
                if not kept:
                    kept.append(item[:left])
                break
            kept.append(item)
            left -= len(item)
        return np.concatenate([self.before, *kept[::-1], self.after])

    def _iterate_items(self, texts: Sequence[str]) -> Iterator[Ids]:
        if texts:
            spaced = [f" {text}" for text in texts]  # tokenized like words within a text
            found = self.tokenizer(spaced, add_special_tokens=False, truncation=True, max_length=self.max_item)
            yield from (np.array(ids, dtype=np.int32) for ids in found["input_ids"])

    def _tokenize(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _get_special_tokens(backbone: TextBackbone) -> tuple[list[int], list[int]]:
    """Return the tokens before and after a text; decoders get an EOS at the end, as for items."""
    tokenizer = backbone.tokenizer
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next(at for at in range(len(whole)) if whole[at : at + len(plain)] == plain)
    opening, closing = list(whole[:start]), list(whole[start + len(plain) :])
    if backbone.appends_eos and (not closing or closing[-1] != tokenizer.eos_token_id):
        closing.append(tokenizer.eos_token_id)
    return opening, closing
