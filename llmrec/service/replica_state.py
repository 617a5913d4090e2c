"""Live users as the state of a `Replica`: from the training log on, by the events of a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmrec.data.interactions import Interactions
from llmrec.data.log import Log, LogFacts
from llmrec.data.times.timestamps import format_iso
from llmrec.errors import DataError, LlmrecError
from llmrec.inference.live.store.event_store import EventStore
from llmrec.inference.live.users import LiveUsers
from llmrec.recommender import Recommender


class ReplicatedUsers:
    """Live users that a replica updates.

    Attributes:
        live: Live users to update.
        renew: Adds the items that other processes have stored to the catalog.
    """

    def __init__(self, live: LiveUsers, renew: Callable[[], object]) -> None:
        self.live, self.renew = live, renew

    def observe(self, user: str, item: str, time: int) -> None:
        """Record an event of a user; an unknown item is first looked for among newly stored ones.

        Args:
            user: The user's id.
            item: Id of a catalog item.
            time: Seconds since 1970.

        Raises:
            DataError: If the item is unknown or the time invalid; then nothing changes.
        """
        try:
            self.live.observe(user, item, time)
        except DataError:
            self.renew()
            self.live.observe(user, item, time)

    def save(self, path: Path) -> None:
        """Save the live users.

        Args:
            path: File to write.
        """
        self.live.save(path)


def make_replicated_users(recommender: Recommender, store: EventStore) -> LiveUsers:
    """Make live users that start with the training log, without deleted users or events of the store.

    Args:
        recommender: Recommender with the catalog and the training log.
        store: Event store that knows the deleted users.

    Returns:
        The live users.
    """
    deleted = store.deleted_user_digests()
    is_deleted = (lambda user: store.digest_user(user) in deleted) if deleted else None
    return LiveUsers(recommender.catalog, recommender.training_log.read, is_excluded=is_deleted)


def is_in_training_log(recommender: Recommender, user: str) -> bool:
    """Return True if the log that states start with has a user.

    Args:
        recommender: Recommender with the training log.
        user: The user's id.

    Returns:
        False also if the log cannot be read or is not the log of the bundle.
    """
    try:
        log = recommender.training_log.read()
    except (LlmrecError, OSError, ImportError):
        return False
    same = log.facts.fingerprint == recommender.catalog.bundle.facts["fingerprint"]
    return same and int(log.user_ids.index(log.names.pseudonym(user)).as_py()) >= 0


def live_users_as_log(live: LiveUsers) -> Log:
    """Return the last events of all live users as a log, without deleted users.

    Args:
        live: Live users.

    Returns:
        A log of U users over the catalog, its events in time order.
    """
    last, users = live.state.last, {row: user for user, row in live.users.items()}
    rows = np.array(sorted(users), dtype=np.int64)
    item, time = last.item[rows], last.time[rows]  # (U, T)
    user, place = np.nonzero(item >= 0)
    item, time = item[user, place], time[user, place]
    order = np.argsort(time, kind="stable")
    ids = pa.array([users[row] for row in rows.tolist()], pa.large_string())
    catalog = live.catalog.items
    first, newest = (
        (format_iso(int(time[order[0]])), format_iso(int(time[order[-1]]))) if len(order) else ("never", "never")
    )
    counts = len(order), len(rows), len(catalog), len(np.unique(item))
    facts = LogFacts("the live users", *counts, "second", first, newest, 0, 0, 0, "")
    return Log(Interactions(user[order], item[order], time[order]), catalog, ids, facts, live.names)
