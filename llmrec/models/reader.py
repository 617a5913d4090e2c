"""A backbone at work on a catalog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrec.models.backbone import Backbone
from llmrec.models.text_cache import TextCache
from llmrec.models.tokens import Tokens


@dataclass(frozen=True)
class Reader:
    """A backbone, and the catalog in its tokens.

    texts: of the items, which histories that are read as text are made of. cache: keeps what a frozen backbone makes of
    them in evaluations; without one nothing of a history outlasts its query.
    """

    backbone: Backbone
    tokens: Tokens
    texts: Sequence[str] = ()
    cache: TextCache | None = None

    @classmethod
    def of(cls, backbone: Backbone, texts: Sequence[str], cache: TextCache | None = None) -> Reader:
        return cls(backbone, backbone.tokens(texts), texts, cache)
