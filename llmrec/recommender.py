"""Recommender: a trained bundle in use. Histories and items in, scores and recommendations out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from numbers import Real
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from llmrec.config import FinetuneConfig
from llmrec.data.histories import Histories, Queries
from llmrec.data.interactions import Rows
from llmrec.data.timestamps import END_OF_TIME
from llmrec.errors import ConfigError, DataError
from llmrec.hub.bundle import Bundle, load_backbone, load_bundle, save_bundle
from llmrec.models.backbone import Backbone
from llmrec.training.scorer import ModelScorer

Time: TypeAlias = "int | float | str | datetime"
Event: TypeAlias = "str | tuple[str, Time]"
Item: TypeAlias = "str | Mapping[str, object]"
VERBATIM = "text"


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One item of a ranked list: rank from 1, the item's id and label, and its score on the model's own scale."""

    rank: int
    item: str
    label: str
    score: float


class Recommender:
    """Recommends from, and scores against, a catalog that can grow.

    A history is a sequence of item ids, oldest first, or of (id, time) pairs; a time is seconds since the epoch, a
    datetime or an ISO string, UTC where it does not say. Scores are the model's logits: they order items for one
    history, and their differences are log-odds. `at` is the query time: events at or after it are left out.
    Without it the moment of the last event is asked about.
    """

    def __init__(
        self, bundle: Bundle, folder: Path, backbone: str | None = None, device: str | torch.device | None = None
    ) -> None:
        if device is not None:
            bundle.model.to(device)
        self._bundle, self._folder, self._backbone_name = bundle, folder, backbone
        self._backbone: Backbone | None = None
        self.catalog = bundle.catalog
        self._scorer = ModelScorer(bundle.model)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, backbone: str | None = None, device: str | torch.device | None = None
    ) -> Recommender:
        """Load and verify a bundle.

        backbone: a local copy of the base model, for new text where no hub is at hand. device: the CPU unless given.

        Raises:
            BundleError: a folder that is no bundle, was altered, or does not reproduce its own scores.
        """
        return cls(load_bundle(Path(folder), backbone), Path(folder), backbone, device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the bundle with the catalog as it is now, added items included."""
        save_bundle(Path(folder), replace(self._bundle, catalog=self.catalog))

    @property
    def config(self) -> FinetuneConfig:
        """What the bundle was made with."""
        return self._bundle.config

    @property
    def backbone(self) -> Backbone:
        """The language model that reads new text; loaded when it is first needed."""
        if self._backbone is None:
            loaded = load_backbone(self._folder, self._bundle, self._backbone_name)
            self._backbone = loaded.to(self._scorer.table.device)
        return self._backbone

    def recommend(
        self, history: Sequence[Event], k: int = 10, at: Time | None = None, include_seen: bool = False
    ) -> list[Recommendation]:
        """The k items that score highest, those of the history left out unless `include_seen`.

        Where the catalog has release dates and `at` is given, items of a later date are left out.

        Raises:
            DataError: an unknown id or an unreadable time. ConfigError: k below 1.
        """
        return self.recommend_many([history], k, at, include_seen)[0]

    @torch.no_grad()
    def recommend_many(
        self, histories: Sequence[Sequence[Event]], k: int = 10, at: Time | None = None, include_seen: bool = False
    ) -> list[list[Recommendation]]:
        """`recommend` for several histories in one pass."""
        if k < 1:
            raise ConfigError(f"k={k}: ask for at least one item")
        queries = self._queries(histories, at)
        scores = self._scorer.scores(queries)  # (B, N)
        if not include_seen:
            scores[tuple(torch.from_numpy(rows) for rows in queries.seen())] = -torch.inf
        if at is not None and self.catalog.release_time is not None:
            scores[:, torch.from_numpy(self.catalog.release_time > seconds_of(at))] = -torch.inf
        best, rows = scores.topk(min(k, scores.shape[1]))
        return [self._named(*pair) for pair in zip(best.tolist(), rows.tolist(), strict=True)]

    @torch.no_grad()
    def score(self, history: Sequence[Event], items: Sequence[Item], at: Time | None = None) -> list[float]:
        """A score for each item: a catalog id, or the fields of an item that is in no catalog.

        `{"title": ...}` goes through the bundle's template; `{"text": ...}` is read as it is.

        Raises:
            DataError: an unknown id. BundleError: new text, and a recommender on ids alone.
        """
        state = self._scorer.states(self._queries([history], at))  # (1, D)
        scores: list[float] = self._bundle.model.scores(state, *self._vectors(items))[0].tolist()
        return scores

    @torch.no_grad()
    def add_items(self, items: Sequence[Mapping[str, object]]) -> None:
        """Put new items (fields with their id) into the catalog: they can be recommended at once, by their text.

        Raises:
            DataError: an id that is missing, given twice or taken; nothing is added then.
        """
        if not items:
            return
        catalog = self.catalog.extend(items)
        texts = [str(text) for text in catalog.text_array[len(self.catalog) :].to_pylist()]
        self._bundle.model.items.extend(self._read(texts))
        self._bundle.model.histories.extend(texts)
        self.catalog, self._scorer = catalog, ModelScorer(self._bundle.model)

    def _named(self, scores: list[float], rows: list[int]) -> list[Recommendation]:
        pairs = [(score, row) for score, row in zip(scores, rows, strict=True) if score != -float("inf")]
        return [
            Recommendation(rank, str(self.catalog.ids[row]), self.catalog.label(row), score)
            for rank, (score, row) in enumerate(pairs, start=1)
        ]

    def _vectors(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        """(C, D) item vectors as the scores see them, and (C,) whether training saw them."""
        if isinstance(items, (str, Mapping)):
            raise DataError("items", [f"{items!r} is one item; give a list of items"])
        model = self._bundle.model
        try:
            rows = torch.from_numpy(self.catalog.rows([item for item in items if isinstance(item, str)]))
        except DataError as error:
            hint = 'for an item in no catalog give its fields: {"title": ...}, or {"text": ...}'
            raise DataError("items", [*error.problems, hint]) from error
        texts = [self._text(item) for item in items if not isinstance(item, str)]
        listed = torch.tensor([isinstance(item, str) for item in items], dtype=torch.bool, device=rows.device)
        vectors = self._scorer.scoring_items.new_empty(len(items), self._scorer.scoring_items.shape[1])
        vectors[listed] = self._scorer.scoring_items[rows]
        known = torch.zeros(len(items), dtype=torch.bool, device=vectors.device)
        known[listed] = model.items.known[rows]
        if texts:
            vectors[~listed] = model.scoring_items(model.items.encode_text(self._read(texts)))
        return vectors, known

    def _text(self, item: Mapping[str, object]) -> str:
        if not isinstance(item, Mapping):
            raise DataError("items", [f"{item!r} is no item; give an id as text, or the fields of a new item"])
        if set(item) != {VERBATIM}:
            return self.catalog.text_of(item)
        if not item[VERBATIM]:
            raise DataError("items", ["empty text; give what there is to read about the item"])
        return str(item[VERBATIM])

    def _read(self, texts: list[str]) -> Tensor:
        return self.backbone.encode(self.backbone.tokens(texts)).to(self._scorer.table)

    def _queries(self, histories: Sequence[Sequence[Event]], at: Time | None) -> Queries:
        """One query for each history, its events before `at` in time order."""
        rows, times = zip(*(self._events(history, at) for history in histories), strict=True) if histories else ((), ())
        lengths = np.array([len(of_one) for of_one in rows], dtype=np.int64)
        offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        item = np.concatenate([np.zeros(0, np.int64), *rows])
        time = np.concatenate([np.zeros(0, np.int64), *times])
        last = np.array([of_one[-1] if len(of_one) else 0 for of_one in times], dtype=np.int64)
        asked = last if at is None else np.full(len(lengths), seconds_of(at), dtype=np.int64)
        user = np.arange(len(lengths))
        past = Histories(item, time, offset, np.arange(len(item)))
        return Queries(past, user, asked, np.zeros_like(user), offset[:-1], offset[1:])

    def _events(self, history: Sequence[Event], at: Time | None) -> tuple[Rows, Rows]:
        """Rows and times of the events of one history that lie before `at`, oldest first."""
        if isinstance(history, str):
            raise DataError("history", [f"{history!r} is one id; give a list of ids"])
        odd = [event for event in history if not isinstance(event, str) and not _is_pair(event)]
        if odd:
            raise DataError("history", [f"{odd[0]!r} is no event; give item ids as text, or (id, time) pairs"])
        rows = self.catalog.rows([event if isinstance(event, str) else event[0] for event in history])
        timed = [event[1] for event in history if not isinstance(event, str)]
        if not timed:
            return rows, np.full(len(rows), 0 if at is None else seconds_of(at), dtype=np.int64)
        if len(timed) < len(history):
            raise DataError("history", ["some events have a time and some have none; give all of them one, or none"])
        times = np.array([seconds_of(time) for time in timed], dtype=np.int64)
        order = np.argsort(times, kind="stable")
        if at is not None:
            order = order[times[order] < seconds_of(at)]
        return rows[order], times[order]


def _is_pair(event: object) -> bool:
    return isinstance(event, (tuple, list)) and len(event) == 2


def seconds_of(time: Time) -> int:
    """Seconds since the epoch; UTC where the time does not say.

    Raises:
        DataError: not a time, or one beyond the year 9999, as milliseconds are.
    """
    try:
        if isinstance(time, Real):  # NumPy's numbers too
            seconds = int(time)
        else:
            moment = time if isinstance(time, datetime) else datetime.fromisoformat(str(time).replace("Z", "+00:00"))
            seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp())
    except (ValueError, OverflowError) as error:
        raise DataError("time", [f"{time!r} is not an ISO date or time such as 2024-05-01T12:00:00+02:00"]) from error
    if abs(seconds) >= END_OF_TIME:
        raise DataError("time", [f"{time!r} is too far from 1970 for seconds; give seconds, not milliseconds"])
    return seconds
