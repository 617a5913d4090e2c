"""A recommender's live users: what they do, as it happens, and where that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmrec.data.log import Log
from llmrec.inference.answers import Answers
from llmrec.inference.live.users import LiveUsers, live_users_from_log
from llmrec.inference.queries import Time, find_item_rows, parse_time


class Following(Answers):
    """Users by their ids, from a log or a saved state on; see `Recommender`."""

    def observe(self, user: str, item: str, at: Time) -> None:
        """Take note that a user, who may be new, touched an item of the catalog: the next answer knows of it.

        Raises:
            DataError: an unknown item, or an unreadable time; then nothing has changed.
        """
        self.observe_many([(user, item, at)])

    def observe_many(self, events: Sequence[tuple[str, str, Time]]) -> None:
        """`observe` for (user, item, time) events in order of arrival, all or none of them."""
        if events:
            users, items, times = zip(*events, strict=True)
            time = np.array([parse_time(time) for time in times], dtype=np.int64)
            self.live.observe_many([str(user) for user in users], find_item_rows(self.catalog, items), time)

    def history(self, user: str) -> list[tuple[str, int]]:
        """The last events of a live user, (item id, seconds), oldest first: what answers go by.

        Raises:
            DataError: nothing is known of the user.
        """
        _, rows, times = self.live.get_events(user)
        return [(str(self.catalog.ids[row]), time) for row, time in zip(rows.tolist(), times.tolist(), strict=True)]

    def forget(self, user: str, log: Log | None = None) -> None:
        """Leave nothing of a live user: what the events added to everybody's counts is taken back, to rounding. Of who
        has more events than a history holds the log is asked, the bundle's own unless `log` is given. What the model
        has learned stays, see `llmrec forget`.

        Raises:
            DataError: nothing is known of the user, or the log cannot be read.
        """
        self.live.forget(user, lambda: self.log if log is None else log)

    def follow(self, log: Log | None = None, before: Time | None = None) -> None:
        """Begin anew with the users and events of a log, the bundle's own unless given, before `before`.

        Raises:
            DataError: a log that cannot be read, or has other items.
        """
        self._live = live_users_from_log(
            self._items, self.log if log is None else log, None if before is None else parse_time(before)
        )

    def save_state(self, path: str | Path) -> None:
        """Write the live users and all counts to one file, which holds users' ids and histories."""
        self.live.save(Path(path))

    def load_state(self, path: str | Path) -> None:
        """Go on from a saved state; items that were added since are taken in.

        Raises:
            StateError: a damaged file, or one of another bundle or of items that the catalog lacks.
        """
        self._live = LiveUsers.load(self._items, Path(path))
