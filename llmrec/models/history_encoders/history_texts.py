"""Histories as one text each: items one after another, the newest last, and none of them in half.

Where a history is longer than the limit, its oldest items are left out. Only an item that is longer than the limit by
itself is cut, and keeps its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.token_store import TokenStore
from llmrec.config.model import HISTORY, HistoryTextConfig
from llmrec.errors import ConfigError, DataError

Ids = NDArray[np.int32]
SHORTEST = 8  # room for items that is worth the name of a history


class HistoryTexts:
    """Item texts in tokens, ready to be joined. Each has at most `backbone.max_tokens`, as where it is read alone.

    Raises:
        ConfigError: a limit that the backbone cannot read, or that leaves no room for items beside the prompt.
    """

    def __init__(self, config: HistoryTextConfig, backbone: TextBackbone, texts: Sequence[str]) -> None:
        self.config, self.tokenizer, self.max_item = config, backbone.tokenizer, backbone.config.max_tokens
        opening, closing = _get_special_tokens(backbone)
        before, after = config.prompt.split(HISTORY)
        self.before = np.array([*opening, *self._tokenize(before)], dtype=np.int32)
        self.after = np.array([*self._tokenize(after), *closing], dtype=np.int32)
        self.room = config.max_tokens - len(self.before) - len(self.after)
        if config.max_tokens > backbone.max_positions:
            raise ConfigError(
                f"model.history_text.max_tokens={config.max_tokens}: {backbone.config.name!r} reads "
                f"{backbone.max_positions} tokens at most; give that or less"
            )
        if self.room < SHORTEST:
            raise ConfigError(
                f"model.history_text.max_tokens={config.max_tokens} leaves {self.room} tokens for items beside "
                f"model.history_text.prompt; give {config.max_tokens - self.room + SHORTEST} or more"
            )
        self.separator = np.array(self._tokenize(config.separator), dtype=np.int32)
        self.items: list[Ids] = []
        self.extend(texts)

    def extend(self, texts: Sequence[str]) -> None:
        """Items that join the end of the catalog."""
        self.items += [np.concatenate([ids, self.separator]) for ids in self._iterate_items(texts)]

    def build_texts(self, histories: Sequence[NDArray[np.int64]]) -> TokenStore:
        """One text for each history of catalog rows, oldest first.

        Raises:
            DataError: an item that is in no catalog.
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
                raise DataError("history", ["an item in no catalog cannot stand in a history that is read as text; "
                                            "add it first with add_items"])  # fmt: skip
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
            spaced = [f" {text}" for text in texts]  # as words within a text are written
            found = self.tokenizer(spaced, add_special_tokens=False, truncation=True, max_length=self.max_item)
            yield from (np.array(ids, dtype=np.int32) for ids in found["input_ids"])

    def _tokenize(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _get_special_tokens(backbone: TextBackbone) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text; decoders get an EOS to end on, as where they read items."""
    tokenizer = backbone.tokenizer
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next(at for at in range(len(whole)) if whole[at : at + len(plain)] == plain)
    opening, closing = list(whole[:start]), list(whole[start + len(plain) :])
    if backbone.causal and (not closing or closing[-1] != tokenizer.eos_token_id):
        closing.append(tokenizer.eos_token_id)
    return opening, closing
