"""The users of a log as of a time, as a model sees them, and whom of them to show an item.

Users are ranked by the log-probability that the item is their next, under their own softmax over the catalog:
log p(i|u) = s_ui - log sum_j exp(s_uj). Scores of different users are not comparable as they are: a user with a long
and clear history has large logits for everything, and only differences within one user are log-odds. The share of the
softmax asks how well the item does against all that this user could have instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from llmrec.data.catalog import ItemCatalog
from llmrec.data.histories import Histories, Queries
from llmrec.data.interactions import Interactions
from llmrec.data.log import Log
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.inference.queries import Item, find_item_rows
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.utils.arrays import Rows

USERS_PER_BATCH = 1024  # users whose scores of a whole catalog are held together


@dataclass(frozen=True)
class LogUsers:
    """U users with events before a time. queries: (U,) their histories; its `user` is their row in the log."""

    queries: Queries
    log: Log

    @classmethod
    def from_log(cls, log: Log, catalog: ItemCatalog, at: int | None) -> LogUsers:
        """at: seconds; events at or after it are left out, and without it each user is asked about at the last event.

        Raises:
            DataError: the log has events on items that the catalog lacks. ConfigError: nobody has events before `at`.
        """
        events = select_events_before(log, catalog, at)
        if not len(events):
            raise ConfigError(f"at: {log.facts.source} has no events before it; the first is at {log.facts.first_time}")
        past = Histories.from_interactions(events, log.n_users)
        user = np.flatnonzero(np.diff(past.offset))
        start, end = past.offset[user], past.offset[user + 1]
        time = past.time[end - 1] if at is None else np.full(len(user), at)
        return cls(Queries(past, user, time, np.zeros_like(user), start, end), log)

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, chunk: slice) -> LogUsers:
        return LogUsers(self.queries.take(chunk), self.log)

    def user_id(self, position: int) -> str:
        return str(self.log.user_ids[int(self.queries.user[position])])

    def find_user(self, user: str) -> int:
        """Where a user's id stands among these.

        Raises:
            ConfigError: the log does not have it, or not before the time.
        """
        positions = np.flatnonzero(self.queries.user == self.log.find_user_row(user))
        if not len(positions):
            raise ConfigError(
                f"user {self.log.names.pseudonym(user)!r} has no events before `at` in {self.log.facts.source}"
            )
        return int(positions[0])

    def user_items(self, position: int) -> Rows:
        """Rows of a user's items, oldest first."""
        queries = self.queries
        return queries.histories.item[queries.start[position] : queries.end[position]]

    def users_with_item(self, item: int) -> Rows:
        """Places of the users whose history holds an item."""
        query, items = self.queries.list_seen_pairs()
        return np.unique(query[items == item])

    def iterate_states(self, scorer: ModelScorer) -> Iterator[Tensor]:
        """(B, D) states, a thousand users at a time."""
        for start in range(0, len(self), USERS_PER_BATCH):
            yield scorer.encode_histories(self.queries.take(slice(start, start + USERS_PER_BATCH)))


def select_events_before(log: Log, catalog: ItemCatalog, at: int | None) -> Interactions:
    """The log's events before `at` (seconds), all of them without it, on rows of the catalog.

    Raises:
        DataError: the log has events on items that the catalog lacks.
    """
    events = log.interactions if at is None else log.interactions.take(log.interactions.time < at)
    row = np.asarray(pc.index_in(log.catalog.ids, value_set=catalog.ids).fill_null(-1)).astype(np.int64)
    item = row[events.item]  # the log's rows -> the catalog's
    if (item < 0).any():
        lost = f"{int((item < 0).sum()):,} events on items that the bundle lacks"
        raise DataError(log.facts.source, [f"{lost}; give the bundle's log, or add them"])
    return Interactions(events.user, item, events.time)


@dataclass(frozen=True, slots=True)
class AudienceMember:
    """One user of a ranked list.

    log_probability: of the item being the user's next. lift: that probability in multiples of the mean over all users.
    place: where the item would stand in the user's own ranking of the catalog, from 1.
    """

    rank: int
    user: str
    log_probability: float
    lift: float
    place: int
    n_events: int


@torch.no_grad()
def next_item_probabilities(catalog: ServedCatalog, users: LogUsers, item: Item) -> tuple[Tensor, Tensor]:
    """(U,) log-probability that an item is the next, and (U,) its place in the catalog, for each user; on the CPU."""
    model, chance, position = catalog.bundle.model, list[Tensor](), list[Tensor]()
    items, known, row = catalog.scorer.scoring_items, model.items.known, len(catalog.items)
    if isinstance(item, str):
        row = int(find_item_rows(catalog.items, [item])[0])
    else:  # one more that there is
        new, unknown = catalog.scoring_vectors([item])
        items, known = torch.cat([items, new]), torch.cat([known, unknown])
    for states in users.iterate_states(catalog.scorer):
        scores = model.score(states, items, known)  # (B, N) or (B, N + 1)
        chance.append(scores.log_softmax(1)[:, row].float().cpu())
        position.append(1 + (scores > scores[:, [row]]).sum(1).cpu())
    return torch.cat(chance), torch.cat(position)


def rank_audience(catalog: ServedCatalog, users: LogUsers, item: Item, k: int) -> list[AudienceMember]:
    """The k users likeliest to want an item; those who have it already are left out."""
    chance, position = next_item_probabilities(catalog, users, item)
    mean = float(chance.logsumexp(0)) - math.log(len(chance))
    holders = (
        users.users_with_item(int(find_item_rows(catalog.items, [item])[0]))
        if isinstance(item, str)
        else np.zeros(0, np.int64)
    )
    chance[torch.from_numpy(holders)] = -torch.inf
    best = chance.topk(min(k, len(users) - len(holders)))
    lengths = users.queries.end - users.queries.start
    return [
        AudienceMember(rank, users.user_id(row), value, math.exp(value - mean), int(position[row]), int(lengths[row]))
        for rank, (value, row) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True), start=1)
    ]
