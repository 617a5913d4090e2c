"""Users by their ids, followed live: what they did up to now, and what a drift head makes of everybody's doings.

A bundle without a drift head has live users all the same: their histories. The head's place is then taken by one that
counts popularity and answers nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from llmrec.config.drift import MAX_HISTORY, DriftConfig
from llmrec.data.log import Log
from llmrec.data.pseudonyms import Pseudonymizer
from llmrec.drift.fitted import FittedDrift
from llmrec.drift.head import DriftHead
from llmrec.drift.stream import ReplayStream
from llmrec.errors import BundleError, DataError, LlmrecError
from llmrec.inference.live.online_state import OnlineState
from llmrec.inference.live.state_file import StateError, read_state, unreadable_error
from llmrec.inference.log_users import select_events_before
from llmrec.inference.queries import QueryBatch
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.search.topk import RowPairs
from llmrec.utils.arrays import Arrays, Rows

NEUTRAL = DriftConfig(terms=("environment",))
IDS, CATALOG = "user_ids", "catalog"  # what a saved state has beside `OnlineState`'s own


class LiveUsers:
    """A `OnlineState` whose users have ids, over the items of a recommender, whose lock guards both.

    users: rows by id, or by pseudonym; names: what makes the one of the other. origin: what it began with, in words.
    """

    def __init__(self, items: ServedCatalog, origin: str = "nothing") -> None:
        self.items, self.origin, self.lock = items, origin, items.lock
        self.users: dict[str, int] = {}
        self.names = Pseudonymizer(items.bundle.config.data.pseudonyms, items.bundle.facts.get("pseudonyms"))
        drift = _no_drift_head() if items.drift is None else items.drift
        self.state = OnlineState(drift.head, _make_stream(items, drift), self.history_limit)

    @property
    def history_limit(self) -> int:
        """Last events that histories hold: as many as the head or the model below looks back on."""
        return max(MAX_HISTORY, self.items.bundle.config.model.max_history)

    def find_row(self, user: str) -> int:
        """
        Raises:
            DataError: nothing has been observed of this user. ConfigError: as `Pseudonymizer.pseudonym` does.
        """
        user = self.names.pseudonym(user)
        if user not in self.users:
            known = f"nothing is known of user {user!r}, but of {len(self.users):,} others, from {self.origin} on"
            raise DataError("live users", [f"{known}; observe events of the user, or give them as the history"])
        return self.users[user]

    def observe(self, user: str, item: int, time: int) -> None:
        """An event; a new user is made place for.

        Raises:
            DataError: no such item or time; then nothing has changed.
        """
        self.observe_many([user], np.array([item]), np.array([time]))

    def observe_many(self, users: Sequence[str], item: Rows, time: Rows) -> None:
        """Events (E,) in order of arrival, all or none of them; raises as `observe`."""
        users = [self.names.pseudonym(user) for user in users]
        with self.lock:
            self.state.validate_events(item=item, time=time)
            new = [user for user in dict.fromkeys(users) if user not in self.users]
            self.users |= {user: self.state.n_users + position for position, user in enumerate(new)}
            self.state.add_users(len(new))
            rows = np.array([self.users[user] for user in users], dtype=np.int64)
            if len(rows) == 1:
                self.state.observe(int(rows[0]), int(item[0]), int(time[0]))
            else:
                self.state.observe_many(rows, item, time)

    def forget(self, user: str, read: Callable[[], Log] | None = None) -> None:
        """Leave nothing of a user, see `OnlineState.forget`. The row is given to nobody again. read: the log that was
        begun with, for who has more events than are kept of anyone: older ones that it lacks stay in the counts.

        Raises:
            DataError: nothing is known of the user, or there are older events and no log.
        """
        with self.lock:
            row = self.find_row(user)
            full = len(self.state.last.get_events(row)[0]) == self.history_limit
            self.state.forget(row, self._older_events(row, user, read) if full else None)
            del self.users[self.names.pseudonym(user)]

    def _older_events(self, row: int, user: str, read: Callable[[], Log] | None) -> tuple[Rows, Rows]:
        """Items and times of a user's events in the log that are older than those that are kept."""
        if read is None:
            known = f"{self.history_limit} events are kept of a user who may have more, which count in what is popular"
            raise DataError("live users", [f"{known}; give the log that holds the older ones"])
        log, (_, kept) = read(), self.state.last.get_events(row)
        own = int(log.user_ids.index(self.names.pseudonym(user)).as_py())
        events = select_events_before(log, self.items.catalog, None)
        mine = events.take(events.user == own)
        n_older = int(np.searchsorted(mine.time, kept[0], side="right")) - int((kept == kept[0]).sum())
        return mine.item[: max(n_older, 0)], mine.time[: max(n_older, 0)]

    def get_events(self, user: str, at: int | None = None) -> tuple[int, Rows, Rows]:
        """A user's row, and the items and times (T,) of the last events.

        Raises:
            DataError: nothing is known of the user, or an event is known that is later than `at`.
        """
        with self.lock:
            row = self.find_row(user)
            newest = self.state.last.last_time(row)
            queries = self.state.make_queries(np.array([row]), max(newest, 0) if at is None else at)
            start, end, past = int(queries.start[0]), int(queries.end[0]), queries.histories
            return row, past.item[start:end], past.time[start:end]

    def export_counts(self) -> Arrays:
        """What everybody's events add up to, see `StreamCounts.export_counts`."""
        with self.lock:
            return self.state.counts_at(0).export_counts()

    def add_new_items(self) -> None:
        """Take in the items that the recommender has gained."""
        with self.lock:
            drift = _no_drift_head() if self.items.drift is None else self.items.drift
            self.state.extend(drift.extend_stream(self.state.stream, len(self.items.catalog)))

    def save(self, path: Path) -> None:
        """All of it in one file, whole or not at all."""
        with self.lock:
            rows = {row: user for user, row in self.users.items()}
            ids = json.dumps([rows.get(row) for row in range(self.state.n_users)]).encode()
            own = {IDS: np.frombuffer(ids, np.uint8), CATALOG: _hash_item_ids(self.items, self.state.stream.n_items)}
            self.state.save(path, own)

    @classmethod
    def load(cls, items: ServedCatalog, path: Path) -> LiveUsers:
        """What was saved; items that came since are taken in.

        Raises:
            StateError: a damaged or foreign file, or one of another head or of other items.
        """
        live = cls(items, f"the state in {path}")
        arrays, facts = read_state(path)
        try:
            n_items = int(facts["n_items"])
            if n_items > len(items.catalog):
                raise StateError(
                    f"{path}: it knows {n_items} items, the catalog {len(items.catalog)}; add those missing"
                )
            known = _hash_item_ids(items, n_items)
            if not np.array_equal(known, arrays[CATALOG]):
                raise StateError(f"{path}: made for other items; load it with its own bundle, or begin anew")
            ids = json.loads(arrays[IDS].tobytes())
        except StateError:
            raise
        except (LookupError, TypeError, ValueError) as error:
            raise unreadable_error(path, error) from error
        live.state = OnlineState.load(path, live.state.head, live.state.stream, live.history_limit)
        live.users = {user: row for row, user in enumerate(ids) if user is not None}
        return live


def start_live_users(
    items: ServedCatalog, read: Callable[[], Log], forgotten: Callable[[str], bool] | None = None
) -> LiveUsers:
    """From the log that the bundle was trained on, where it is still there and the same; else from the counts that the
    bundle keeps, with no users; else from nothing. forgotten: as of `live_users_from_log`.
    """
    try:
        log = read()
        if log.facts.fingerprint == items.bundle.facts["fingerprint"]:
            return live_users_from_log(items, log, None, forgotten)
    except (LlmrecError, OSError, ImportError):
        pass  # a bundle that was sent elsewhere, as most are
    counts = None if items.drift is None else items.drift.counts
    live = LiveUsers(items, "nothing" if counts is None else "the counts in the bundle")
    if counts is not None:
        try:
            live.state.restore_counts(counts)
        except (LookupError, TypeError, ValueError) as error:
            raise BundleError(f"{items.folder}: its counts cannot be read ({error}); save the bundle again") from error
    return live


def live_users_from_log(
    items: ServedCatalog, log: Log, before: int | None, forgotten: Callable[[str], bool] | None = None
) -> LiveUsers:
    """From the events of a log before `before` (seconds), all of them without it. forgotten: tells users who are left
    out, with all their events: what comes of it is, to the last bit, what would without them (unless `k_core` kept
    events of others for theirs).

    Raises:
        DataError: the log has events on items that the catalog lacks.
    """
    events = select_events_before(log, items.catalog, before)
    live = LiveUsers(items, log.facts.source)
    live.users = {user: row for row, user in enumerate(log.user_ids.to_pylist())}
    if forgotten is not None:
        gone = {user: row for user, row in live.users.items() if forgotten(user)}
        live.users = {user: row for user, row in live.users.items() if user not in gone}
        events = events.take(~np.isin(events.user, list(gone.values())))
    live.state.add_users(log.n_users)
    live.state.observe_many(events.user, events.item, events.time)
    return live


def list_seen_pairs(batch: QueryBatch, n_items: int, live: LiveUsers | None) -> RowPairs:
    """Each query with the catalog's items in its history, for a live user with all there ever were; rows from `n_items`
    on are of items that the catalog lacks.
    """
    query, item = batch.queries.list_seen_pairs()
    known = item < n_items
    query, item = query[known], item[known]
    if live is not None and (batch.users >= 0).any():
        followed = np.flatnonzero(batch.users >= 0)
        position, older = live.state.seen.list_pairs(batch.users[followed])
        query, item = np.concatenate([query, followed[position]]), np.concatenate([item, older])
    return RowPairs(torch.from_numpy(query), torch.from_numpy(item))


def _make_stream(items: ServedCatalog, drift: FittedDrift) -> ReplayStream:
    config = items.bundle.config
    ties = config.split.ties if config.split.names[0] == "by_time" else config.split.leave_one_out_ties
    settings = config.drift if items.drift is not None and config.drift is not None else NEUTRAL
    return drift.build_serving_stream(settings, ties, len(items.catalog))


def _hash_item_ids(items: ServedCatalog, n_items: int) -> NDArray[np.uint8]:
    """Of the ids of the first n items: rows mean the same only where these are."""
    ids = "\0".join(items.catalog.ids[:n_items].to_pylist())
    return np.frombuffer(hashlib.sha256(ids.encode()).digest(), np.uint8)


def _no_drift_head() -> FittedDrift:
    return FittedDrift(DriftHead(NEUTRAL).requires_grad_(False), NEUTRAL.transition_half_lives_days[0])
