"""The users of a log as of a time, and the audience of an item among them.

Users are ranked by the log-probability that the item is their next, under their own softmax over the catalog:
log p(i|u) = s_ui - log sum_j exp(s_uj). Raw scores of different users are not comparable: a user with a long and clear
history has large logits for everything, and only differences within one user are log-odds. The share of the softmax
measures how well the item competes with everything else that this user could have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from llmrec.data.histories import Histories, Queries
from llmrec.data.ids import Id, format_id, is_id
from llmrec.data.interactions import Interactions
from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.log import Log
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.inference.queries import Item, find_item_rows
from llmrec.inference.ranked_items import check_k
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.utils.arrays import Rows
from llmrec.utils.result_list import ResultList

USERS_PER_BATCH = 1024  # users whose scores of a whole catalog are held together


@dataclass(frozen=True)
class LogUsers:
    """U users of a log with events before a time."""

    queries: Queries
    """Histories of the users, (U,); `user` is the row in the log."""
    log: Log
    """Log of the users."""

    @classmethod
    def from_log(cls, log: Log, catalog: ItemCatalog, at: int | None) -> LogUsers:
        """Collect the users of a log that have events before a time.

        Args:
            log: Log of the users.
            catalog: Items of the bundle.
            at: Query time in seconds, without events at or after it; if None, the time of each user's last event.

        Returns:
            The users.

        Raises:
            DataError: If the log has events on items that the catalog lacks.
            ConfigError: If no user has events before `at`.
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
        """Select consecutive users.

        Args:
            chunk: Positions to select.

        Returns:
            The selected users.
        """
        return LogUsers(self.queries.take(chunk), self.log)

    def user_id(self, position: int) -> str:
        """Return the id of a user.

        Args:
            position: Position among these users.

        Returns:
            The id, or the pseudonym.
        """
        return str(self.log.user_ids[int(self.queries.user[position])])

    def find_user(self, user: Id) -> int:
        """Find the position of a user among these.

        Args:
            user: The user's id.

        Returns:
            The position.

        Raises:
            ConfigError: If the log lacks the user, or has no events of the user before the time.
        """
        positions = np.flatnonzero(self.queries.user == self.log.find_user_row(user))
        if not len(positions):
            name = self.log.names.pseudonym(format_id(user))
            raise ConfigError(f"user {name!r} has no events before `at` in {self.log.facts.source}")
        return int(positions[0])

    def user_items(self, position: int) -> Rows:
        """Return the items of a user's history.

        Args:
            position: Position among these users.

        Returns:
            Catalog rows, (T,), oldest first.
        """
        queries = self.queries
        return queries.histories.item[queries.start[position] : queries.end[position]]

    def users_with_item(self, item: int) -> Rows:
        """Find the users whose history contains an item.

        Args:
            item: Catalog row.

        Returns:
            Their positions, ascending.
        """
        query, items = self.queries.list_seen_pairs()
        return np.unique(query[items == item])

    def iterate_states(self, scorer: ModelScorer) -> Iterator[Tensor]:
        """Compute the user states, `USERS_PER_BATCH` users at a time.

        Args:
            scorer: Scores of the model.

        Yields:
            User states, (B, D).
        """
        for start in range(0, len(self), USERS_PER_BATCH):
            yield scorer.encode_histories(self.queries.take(slice(start, start + USERS_PER_BATCH)))


def select_events_before(log: Log, catalog: ItemCatalog, at: int | None) -> Interactions:
    """Select the events of a log before a time, on rows of the catalog.

    Args:
        log: Log to read.
        catalog: Items of the bundle.
        at: Time in seconds; None selects all events.

    Returns:
        The events.

    Raises:
        DataError: If the log has events on items that the catalog lacks.
    """
    events = log.interactions if at is None else log.interactions.take(log.interactions.time < at)
    row = np.asarray(pc.index_in(log.catalog.ids, value_set=catalog.ids).fill_null(-1)).astype(np.int64)
    item = row[events.item]  # the log's rows -> the catalog's
    if (item < 0).any():
        lost = f"{int((item < 0).sum()):,} events on items that the bundle lacks"
        raise DataError(log.facts.source, [f"{lost}; give the bundle's log, or add them"])
    return Interactions(events.user, item, events.time)


def select_older_events(log: Log, catalog: ItemCatalog, user: str, kept: Rows) -> tuple[Rows, Rows]:
    """Select the events of a user that are older than those that are kept.

    Args:
        log: Log to read.
        catalog: Items of the bundle.
        user: The user's id, or pseudonym.
        kept: Times of the last events, oldest first.

    Returns:
        Catalog rows and times of the older events.

    Raises:
        DataError: If the log has events on items that the catalog lacks.
    """
    events = select_events_before(log, catalog, None)
    events = events.take(events.user == int(log.user_ids.index(user).as_py()))
    n_older = max(int(np.searchsorted(events.time, kept[0], side="right")) - int((kept == kept[0]).sum()), 0)
    return events.item[:n_older], events.time[:n_older]


@dataclass(frozen=True, slots=True)
class AudienceMember:
    """One user of a ranked list."""

    rank: int
    """Position in the list, from 1."""
    user: str
    """The user's id, or pseudonym."""
    log_probability: float
    """Log-probability that the item is the user's next."""
    lift: float
    """That probability in multiples of the mean over all users."""
    place: int
    """Rank of the item among all items for this user, from 1."""
    n_events: int
    """Events of the user's history."""

    def to_cells(self) -> dict[str, str]:
        """Return the cells of a table."""
        chance = {"user": self.user, "times the mean chance": f"{self.lift:.1f}", "rank of the item": f"{self.place:,}"}
        return {**chance, "events": f"{self.n_events:,}"}


@torch.no_grad()
def next_item_probabilities(catalog: ServedCatalog, users: LogUsers, item: Item) -> tuple[Tensor, Tensor]:
    """Compute for each user how probable an item is as the next one, and its rank in the catalog.

    Args:
        catalog: Items and their vectors.
        users: U users of a log.
        item: Id of a catalog item, or fields of a new item, which competes in addition to the catalog.

    Returns:
        Log-probabilities and ranks from 1, (U,) each, on the CPU.
    """
    model, chance, position = catalog.bundle.model, list[Tensor](), list[Tensor]()
    items, known, row = catalog.scorer.scoring_items, model.items.known, len(catalog.items)
    if is_id(item):
        row = int(find_item_rows(catalog.items, [item])[0])
    else:  # one item more
        new, unknown = catalog.scoring_vectors([item])
        items, known = torch.cat([items, new]), torch.cat([known, unknown])
    for part, states in enumerate(users.iterate_states(catalog.scorer)):
        scores = model.score(states, items, known)  # (B, N) or (B, N + 1)
        if model.repeats:
            start = part * USERS_PER_BATCH
            scores = catalog.scorer.add_repeat_bias(scores.cpu(), users.queries.take(slice(start, start + len(states))))
        chance.append(scores.log_softmax(1)[:, row].float().cpu())
        position.append(1 + (scores > scores[:, [row]]).sum(1).cpu())
    return torch.cat(chance), torch.cat(position)


def rank_audience(catalog: ServedCatalog, users: LogUsers, item: Item, k: int) -> ResultList[AudienceMember]:
    """Return the k users whose next item this most probably is, without those who have it.

    Args:
        catalog: Items and their vectors.
        users: U users of a log.
        item: Id of a catalog item, or fields of a new item.
        k: Number of users.

    Returns:
        At most k users, best first.

    Raises:
        ConfigError: If k is below 1.
        DataError: If the id is unknown.
    """
    check_k(k)
    chance, position = next_item_probabilities(catalog, users, item)
    mean = float(chance.logsumexp(0)) - math.log(len(chance))
    holders = (
        users.users_with_item(int(find_item_rows(catalog.items, [item])[0])) if is_id(item) else np.zeros(0, np.int64)
    )
    chance[torch.from_numpy(holders)] = -torch.inf
    best = chance.topk(min(k, len(users) - len(holders)))
    lengths = users.queries.end - users.queries.start
    return ResultList(
        AudienceMember(rank, users.user_id(row), value, math.exp(value - mean), int(position[row]), int(lengths[row]))
        for rank, (value, row) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True), start=1)
    )
