"""The users of a log as of a time, as a model sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from llmrec.data.catalog import ItemCatalog
from llmrec.data.histories import Histories, Queries
from llmrec.data.interactions import Interactions, Rows
from llmrec.data.log import Log
from llmrec.errors import ConfigError, DataError
from llmrec.training.scorer import ModelScorer

AT_ONCE = 1024  # users whose scores of a whole catalog are held together


@dataclass(frozen=True)
class Users:
    """U users with events before a time. queries: (U,) their histories; its `user` is their row in the log."""

    queries: Queries
    log: Log

    @classmethod
    def of(cls, log: Log, catalog: ItemCatalog, at: int | None) -> Users:
        """at: seconds; events at or after it are left out, and without it each user is asked about at the last event.

        Raises:
            DataError: the log has events on items that the catalog lacks. ConfigError: nobody has events before `at`.
        """
        events = log.interactions if at is None else log.interactions.take(log.interactions.time < at)
        if not len(events):
            raise ConfigError(f"at: {log.facts.source} has no events before it; the first is at {log.facts.first_time}")
        events = Interactions(events.user, _rows_in(catalog, log)[events.item], events.time)
        if (events.item < 0).any():
            n_lost = int((events.item < 0).sum())
            raise DataError(
                log.facts.source,
                [f"{n_lost:,} events on items that the bundle lacks; give the bundle's log, or add them"],
            )
        past = Histories.of(events, log.n_users)
        user = np.flatnonzero(np.diff(past.offset))
        start, end = past.offset[user], past.offset[user + 1]
        time = past.time[end - 1] if at is None else np.full(len(user), at)
        return cls(Queries(past, user, time, np.zeros_like(user), start, end), log)

    def __len__(self) -> int:
        return len(self.queries)

    def id(self, place: int) -> str:
        return str(self.log.user_ids[int(self.queries.user[place])])

    def place(self, user: str) -> int:
        """Where a user's id stands among these.

        Raises:
            ConfigError: the log does not have it, or not before the time.
        """
        row = self.log.user_ids.index(user).as_py()
        places = np.flatnonzero(self.queries.user == row)
        if not len(places):
            shown = f"ids there look like {self.log.user_ids[0]}"
            raise ConfigError(f"user {user!r} has no events in {self.log.facts.source} by then; {shown}")
        return int(places[0])

    def items(self, place: int) -> Rows:
        """Rows of a user's items, oldest first."""
        queries = self.queries
        return queries.histories.item[queries.start[place] : queries.end[place]]

    def holders(self, item: int) -> Rows:
        """Places of the users whose history holds an item."""
        query, items = self.queries.seen()
        return np.unique(query[items == item])

    def states(self, scorer: ModelScorer) -> Iterator[Tensor]:
        """(B, D) states, a thousand users at a time."""
        for start in range(0, len(self), AT_ONCE):
            yield scorer.states(self.queries.take(slice(start, start + AT_ONCE)))

    def all_states(self, scorer: ModelScorer) -> Tensor:
        """(U, D)"""
        return torch.cat(list(self.states(scorer)))


def _rows_in(catalog: ItemCatalog, log: Log) -> Rows:
    """(N of the log,) row in the catalog of each of a log's items, -1 where it is not there."""
    return np.asarray(pc.index_in(log.catalog.ids, value_set=catalog.ids).fill_null(-1)).astype(np.int64)
