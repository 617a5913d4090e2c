"""A recommender's live users as a `Replica` moves them: from the training log on, by the events of a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmrec.data.interactions import Interactions
from llmrec.data.log import Log, LogFacts
from llmrec.data.timestamps import format_iso
from llmrec.errors import DataError, LlmrecError
from llmrec.inference.live.store.event_store import EventStore
from llmrec.inference.live.users import LiveUsers
from llmrec.recommender import Recommender


class ReplicatedUsers:
    """live: what is moved. renew: takes in the items that other processes have added."""

    def __init__(self, live: LiveUsers, renew: Callable[[], object]) -> None:
        self.live, self.renew = live, renew

    def observe(self, user: str, item: str, time: int) -> None:
        """
        Raises:
            DataError: no such item or time; then nothing has changed.
        """
        try:
            self.live.observe(user, item, time)
        except DataError:
            self.renew()
            self.live.observe(user, item, time)

    def save(self, path: Path) -> None:
        self.live.save(path)


def make_replicated_users(recommender: Recommender, store: EventStore) -> LiveUsers:
    """Make live users without events of the store, who start with the training log without deleted users."""
    deleted = store.deleted_user_digests()
    is_deleted = (lambda user: store.digest_user(user) in deleted) if deleted else None
    return LiveUsers(recommender.catalog, recommender.training_log, is_excluded=is_deleted)


def is_in_training_log(recommender: Recommender, user: str) -> bool:
    """Whether the log that states begin with has a user."""
    try:
        log = recommender.training_log()
    except (LlmrecError, OSError, ImportError):
        return False
    same = log.facts.fingerprint == recommender.catalog.bundle.facts["fingerprint"]
    return same and int(log.user_ids.index(log.names.pseudonym(user)).as_py()) >= 0


def live_users_as_log(live: LiveUsers) -> Log:
    """What the state still holds of its users, their last events, as a log: who was deleted is not in it, and what they
    did since is.
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
