"""A log ready for use, and the facts about it that every report and bundle repeats."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.catalog import ItemCatalog
from llmrec.data.interactions import Interactions
from llmrec.data.pii import format_counts
from llmrec.data.pseudonyms import IDS, Pseudonymizer
from llmrec.data.timestamps import Resolution, format_iso
from llmrec.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What a log is, after what was dropped from it.

    source: the name of the folder, file or data set.
    n_users: with events; n_items: of the catalog; n_items_with_events: those of them that the log has.
    resolution: of the times as they were written; events keep whole seconds, and the order of their fractions.
    n_repeats_dropped, n_unknown_items_dropped, n_dropped_by_k_core: events.
    fingerprint: sha256 of the events, the ids and the item texts.
    pseudonyms: which key users' names were made with, see `Pseudonymizer.key_check`; None where these are their ids.
    n_scrubbed: personal details that were taken out of items' texts, by kind.
    """

    source: str
    n_events: int
    n_users: int
    n_items: int
    n_items_with_events: int
    resolution: Resolution
    first_time: str
    last_time: str
    n_repeats_dropped: int
    n_unknown_items_dropped: int
    n_dropped_by_k_core: int
    fingerprint: str
    pseudonyms: str | None = None
    n_scrubbed: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For people: what was read, and what was dropped from it."""
        dropped = {
            "repeats of a (user, item) pair": self.n_repeats_dropped,
            "events on unknown items": self.n_unknown_items_dropped,
            "events of rare users and items": self.n_dropped_by_k_core,
        }
        return [
            f"{self.source}: {self.n_events:,} events by {self.n_users:,} users on {self.n_items_with_events:,} of "
            f"{self.n_items:,} items",
            f"from {self.first_time} to {self.last_time}, times to the {self.resolution}",
            *(f"dropped {count:,} {what}" for what, count in dropped.items() if count),
            *([f"took out of item texts: {format_counts(self.n_scrubbed)}"] if self.n_scrubbed else []),
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Events and the items they are on. user_ids: (n_users,) the id behind each user row, or its pseudonym. names: what
    makes the one of the other.
    """

    interactions: Interactions
    catalog: ItemCatalog
    user_ids: pa.LargeStringArray
    facts: LogFacts
    names: Pseudonymizer = IDS

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        return len(self.catalog)

    def find_user_row(self, user: str) -> int:
        """The row of a user's id, or pseudonym.

        Raises:
            ConfigError: the log does not have it, or as `Pseudonymizer.pseudonym` does.
        """
        user = self.names.pseudonym(str(user))
        row: int = self.user_ids.index(user).as_py()
        if row < 0:
            shown = f"ids there look like {self.user_ids[0]}"
            raise ConfigError(f"user {user!r} has no events in {self.facts.source}; {shown}")
        return row


def make_log(
    source: str,
    interactions: Interactions,
    catalog: ItemCatalog,
    user_ids: pa.LargeStringArray,
    resolution: Resolution,
    n_repeats_dropped: int = 0,
    n_unknown_items_dropped: int = 0,
    n_dropped_by_k_core: int = 0,
    names: Pseudonymizer = IDS,
    n_scrubbed: Mapping[str, int] | None = None,
) -> Log:
    """A log of at least one event, with its facts."""
    facts = LogFacts(
        source=source,
        n_events=len(interactions),
        n_users=len(user_ids),
        n_items=len(catalog),
        n_items_with_events=int(np.count_nonzero(np.bincount(interactions.item))),
        resolution=resolution,
        first_time=format_iso(int(interactions.time[0])),
        last_time=format_iso(int(interactions.time[-1])),
        n_repeats_dropped=n_repeats_dropped,
        n_unknown_items_dropped=n_unknown_items_dropped,
        n_dropped_by_k_core=n_dropped_by_k_core,
        fingerprint=_compute_fingerprint(interactions, user_ids, catalog),
        pseudonyms=names.key_check,
        n_scrubbed=dict(n_scrubbed or {}),
    )
    return Log(interactions, catalog, user_ids, facts, names)


def _compute_fingerprint(interactions: Interactions, user_ids: pa.LargeStringArray, catalog: ItemCatalog) -> str:
    digest = hashlib.sha256()
    for column in (interactions.user, interactions.item, interactions.time):
        digest.update(np.ascontiguousarray(column, dtype="<i8").data)
    for strings in (user_ids, catalog.ids, catalog.text_array):
        lengths = np.asarray(pc.binary_length(strings))
        digest.update(np.ascontiguousarray(lengths, dtype="<i8").tobytes())
        joined = pc.binary_join(
            pa.LargeListArray.from_arrays([0, len(strings)], strings), pa.scalar("", pa.large_string())
        )
        digest.update(joined[0].as_buffer())
    return digest.hexdigest()
