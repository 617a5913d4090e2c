"""Live users: the events of each user so far, and the counts of all events that a drift head reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from llmrec.data.ids import Id, format_id
from llmrec.data.log import Log
from llmrec.data.pseudonyms import Pseudonymizer
from llmrec.errors import DataError, LlmrecError
from llmrec.inference.live.new_state import get_history_limit, get_serving_drift, make_state, restore_bundle_counts
from llmrec.inference.live.online_state import OnlineState
from llmrec.inference.live.saved_users import load_users, save_users
from llmrec.inference.log_users import select_events_before, select_older_events
from llmrec.inference.queries import QueryBatch, Time, parse_time
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.search.row_pairs import RowPairs
from llmrec.utils.arrays import Arrays, Rows


class LiveUsers:
    """Users whose events are observed while serving.

    The state starts at first use: with the users and events of the training log where it can be read, else with the
    counts in the bundle and no users, else empty. `replay_log` and `load` start it again from elsewhere. Items that
    the catalog gains are taken in when the state is used next.

    Attributes:
        catalog: The items of the events; its lock guards the state too.
        names: Makes pseudonyms of user ids where the bundle has them.

    Example:
        recommender.live.observe("ada", "318", "2024-05-01T20:00")
        recommender.recommend("ada", k=5)
    """

    def __init__(
        self, catalog: ServedCatalog, read_log: Callable[[], Log], *, is_excluded: Callable[[str], bool] | None = None
    ) -> None:
        """Prepare a state that starts at first use.

        Args:
            catalog: The items of the events.
            read_log: Reads the training log.
            is_excluded: Selects users to leave out of the log with all their events.
        """
        self.catalog, self.lock, self._origin = catalog, catalog.lock, "nothing"
        self.names = Pseudonymizer(catalog.bundle.config.data.pseudonyms, catalog.bundle.facts.get("pseudonyms"))
        self._read_log, self._is_excluded = read_log, is_excluded
        self._users: dict[str, int] = {}
        self._state: OnlineState | None = None
        self._counting: OnlineState | None = None

    def __repr__(self) -> str:
        if self._state is None:
            return "LiveUsers(not started)"
        return f"LiveUsers({len(self._users):,} users, started with {self._origin})"

    def observe(self, user: Id, item: Id, at: Time) -> None:
        """Record an event of a known or new user; the next answer includes it.

        Args:
            user: The user's id.
            item: Id of a catalog item.
            at: Time of the event.

        Raises:
            DataError: If the item is unknown or the time unreadable; then nothing changes.

        Example:
            recommender.live.observe("ada", "2571", "2016-11-02T20:00")
        """
        self.observe_many([(user, item, at)])

    def observe_many(self, events: Sequence[tuple[Id, Id, Time]]) -> None:
        """Record events in order of arrival, all or none of them.

        Args:
            events: (user, item, time) triples.

        Raises:
            DataError: As `observe`.
        """
        if not events:
            return
        users, items, times = zip(*events, strict=True)
        names = [self.names.pseudonym(format_id(user)) for user in users]
        time = np.array([parse_time(time) for time in times], dtype=np.int64)
        with self.lock:
            item, state = self.catalog.find_rows(items), self.state
            state.validate_events(item=item, time=time)
            new = [name for name in dict.fromkeys(names) if name not in self._users]
            self._users |= {name: state.n_users + index for index, name in enumerate(new)}
            state.add_users(len(new))
            rows = np.array([self._users[name] for name in names], dtype=np.int64)
            if len(rows) == 1:
                state.observe(int(rows[0]), int(item[0]), int(time[0]))
            else:
                state.observe_many(rows, item, time)

    def history(self, user: Id) -> list[tuple[str, int]]:
        """Return the last events of a user, which answers are based on.

        Args:
            user: The user's id.

        Returns:
            (item id, seconds) pairs, oldest first.

        Raises:
            DataError: If the user is unknown.
        """
        _, rows, times = self.get_events(user)
        ids = self.catalog.ids
        return [(str(ids[row]), time) for row, time in zip(rows.tolist(), times.tolist(), strict=True)]

    def forget(self, user: Id, *, log: Log | None = None) -> None:
        """Remove all events of a user from histories and counts; the weights of the model stay as they are.

        Args:
            user: The user's id.
            log: The log that holds the events of users with longer histories than are kept; the training log if None.

        Raises:
            DataError: If the user is unknown, or the log is needed and cannot be read.
        """
        with self.lock:
            name = self.names.pseudonym(format_id(user))
            row, state, older = self.find_row(user), self.state, None
            _, kept = state.last.get_events(row)
            if len(kept) == get_history_limit(self.catalog):
                older = select_older_events(self._read_log() if log is None else log, self.catalog.items, name, kept)
            state.forget(row, older)
            del self._users[name]  # the row is not used again

    def replay_log(self, log: Log | None = None, *, before: Time | None = None) -> None:
        """Start again with the users and events of a log.

        Args:
            log: The training log if None.
            before: Only events before this time count.

        Raises:
            DataError: If the log cannot be read or has items that the catalog lacks.
        """
        log = self._read_log() if log is None else log
        events = select_events_before(log, self.catalog.items, None if before is None else parse_time(before))
        users = {user: row for row, user in enumerate(log.user_ids.to_pylist())}
        if self._is_excluded is not None:
            users = {user: row for user, row in users.items() if not self._is_excluded(user)}
            events = events.take(np.isin(events.user, list(users.values())))
        with self.lock:
            state = make_state(self.catalog)
            state.add_users(log.n_users)
            state.observe_many(events.user, events.item, events.time)
            self._state, self._users, self._origin = state, users, log.facts.source

    def save(self, path: str | Path) -> None:
        """Write users, histories and counts to one file.

        Args:
            path: File to write.
        """
        with self.lock:
            save_users(Path(path), self.state, self._users, self.catalog)

    def load(self, path: str | Path) -> None:
        """Continue from a saved state; items that the catalog has gained since are added.

        Args:
            path: File to read.

        Raises:
            StateError: If the file is damaged, or of another bundle or of items that the catalog lacks.
        """
        with self.lock:
            self._state, self._users = load_users(Path(path), self.catalog)
            self._origin = f"the state in {path}"

    @property
    def state(self) -> OnlineState:
        """Counts, beliefs and last events, over all items of the catalog."""
        with self.lock:
            state = self._start() if self._state is None else self._state
            if state.stream.n_items < len(self.catalog):
                state.extend(get_serving_drift(self.catalog).extend_stream(state.stream, len(self.catalog)))
            return state

    @property
    def counting_state(self) -> OnlineState:
        """State for given histories: until it starts, the counts in the bundle, without a replay of the log."""
        with self.lock:
            if self._state is not None or self.catalog.drift is None or self.catalog.drift.counts is None:
                return self.state
            if self._counting is None or self._counting.stream.n_items < len(self.catalog):
                self._counting = make_state(self.catalog)
                restore_bundle_counts(self._counting, self.catalog)
            return self._counting

    @property
    def origin(self) -> str:
        """Source that the state started with, in words."""
        with self.lock:
            if self._state is None:
                self._start()
            return self._origin

    @property
    def users(self) -> dict[str, int]:
        """Rows of the state by user id, or by pseudonym."""
        with self.lock:
            if self._state is None:
                self._start()
            return self._users

    def find_row(self, user: Id) -> int:
        """Return the row of a user in the state.

        Args:
            user: The user's id.

        Returns:
            The row.

        Raises:
            DataError: If no event of the user has been observed.
            ConfigError: If the bundle has pseudonyms and their key is missing.
        """
        name, users = self.names.pseudonym(format_id(user)), self.users
        if name not in users:
            known = f"unknown user {name!r} ({len(users):,} users known, from {self.origin} on)"
            raise DataError("live users", [f"{known}. Record events with live.observe() or pass a history."])
        return users[name]

    def get_events(self, user: Id, at: int | None = None) -> tuple[int, Rows, Rows]:
        """Return the row of a user and the last events.

        Args:
            user: The user's id.
            at: Query time in seconds; the time of the user's newest event if None.

        Returns:
            Row, and items and times of the events, (T,) each, oldest first.

        Raises:
            DataError: If the user is unknown or has an event later than `at`.
        """
        with self.lock:
            row = self.find_row(user)
            newest = self.state.last.last_time(row)
            queries = self.state.make_queries(np.array([row]), max(newest, 0) if at is None else at)
            start, end, past = int(queries.start[0]), int(queries.end[0]), queries.histories
            return row, past.item[start:end], past.time[start:end]

    def list_seen_pairs(self, batch: QueryBatch) -> RowPairs:
        """Pair each query with the catalog items of its history, of a live user with all items ever observed.

        Args:
            batch: B histories.

        Returns:
            (query, item) pairs.
        """
        query, item = batch.queries.list_seen_pairs()
        known = item < len(self.catalog)
        query, item = query[known], item[known]
        if (batch.users >= 0).any():
            live, older = self.state.seen.list_pairs(batch.users)
            query, item = np.concatenate([query, live]), np.concatenate([item, older])
        return RowPairs(torch.from_numpy(query), torch.from_numpy(item))

    def export_counts(self) -> Arrays | None:
        """Export the counts of all events that a drift head reads.

        Returns:
            Arrays by name, see `StreamCounts.export_counts`; None without a drift head, or before the state is used.
        """
        with self.lock:
            if self.catalog.drift is None or self._state is None:
                return None
            return self.state.counts_at(0).export_counts()

    def _start(self) -> OnlineState:
        try:
            log = self._read_log()
            if log.facts.fingerprint == self.catalog.bundle.facts["fingerprint"]:
                self.replay_log(log)
        except (LlmrecError, OSError, ImportError):
            pass  # most bundles are used on another machine than their log
        if self._state is None:
            state = make_state(self.catalog)
            if restore_bundle_counts(state, self.catalog):
                self._origin = "the counts in the bundle"
            self._state = state
        return self._state
