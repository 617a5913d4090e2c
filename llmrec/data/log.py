"""Loaded log: events, catalog, users and the facts that reports and bundles record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.ids import Id, format_id
from llmrec.data.interactions import Interactions
from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.pii import format_counts
from llmrec.data.pseudonyms import PLAIN_IDS, Pseudonymizer
from llmrec.data.times.odd_times import describe_odd_times
from llmrec.data.times.timestamps import Resolution, format_iso
from llmrec.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LogFacts:
    """Facts about a log after filtering."""

    source: str
    """Name of the folder, file or data set."""
    n_events: int
    """Number of events."""
    n_users: int
    """Number of users with events."""
    n_items: int
    """Number of items of the catalog."""
    n_items_with_events: int
    """Number of items that have events."""
    resolution: Resolution
    """Resolution of the times as written, `order` if they are places in each user's order; events keep whole seconds
    and the order of their fractions.
    """
    first_time: str
    """Time of the first event, ISO 8601 in UTC."""
    last_time: str
    """Time of the last event, ISO 8601 in UTC."""
    n_repeats_dropped: int
    """Number of events dropped because their (user, item) pair occurred before."""
    n_unknown_items_dropped: int
    """Number of events dropped because their item is not in the catalog."""
    n_dropped_by_k_core: int
    """Number of events dropped because their user or item has too few."""
    fingerprint: str
    """SHA-256 of the events, the ids and the item texts."""
    pseudonyms: str | None = None
    """Check of the key that made the pseudonyms (`Pseudonymizer.key_check`); None without pseudonyms."""
    n_scrubbed: dict[str, int] = field(default_factory=dict)
    """Number of personal details removed from item texts, by kind."""
    n_faulty: dict[str, int] = field(default_factory=dict)
    """Number of faulty rows dropped, of events and of items; without those of which there are none."""
    odd_times: tuple[str, ...] = ()
    """Descriptions of unlikely times, such as those after now."""

    @property
    def has_times(self) -> bool:
        """True unless times are places in each user's order."""
        return self.resolution != "order"


def format_log_facts(facts: LogFacts) -> list[str]:
    """Format facts as lines of text: the events read, then the events dropped.

    Args:
        facts: Facts about a log.

    Returns:
        Lines.
    """
    dropped = {
        "repeats of a (user, item) pair": facts.n_repeats_dropped,
        "events on unknown items": facts.n_unknown_items_dropped,
        "events of rare users and items": facts.n_dropped_by_k_core,
    } | {f"faulty rows of {what}": count for what, count in facts.n_faulty.items()}
    return [
        f"{facts.source}: {facts.n_events:,} events by {facts.n_users:,} users on {facts.n_items_with_events:,} of "
        f"{facts.n_items:,} items",
        describe_period(facts),
        *(f"times: {line}" for line in facts.odd_times),
        *(f"dropped {count:,} {what}" for what, count in dropped.items() if count),
        *([f"redacted in item texts: {format_counts(facts.n_scrubbed)}"] if facts.n_scrubbed else []),
    ]


def describe_period(facts: LogFacts) -> str:
    """Describe the first and the last time of a log, and the clock of its times.

    Args:
        facts: Facts about a log.

    Returns:
        One line of text.
    """
    if not facts.has_times:
        return "no times: events have an order within each user alone"
    return f"from {facts.first_time} to {facts.last_time}, times to the {facts.resolution}"


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Events, the catalog of their items and the ids of their users."""

    interactions: Interactions
    """Events in time order."""
    catalog: ItemCatalog
    """Catalog of items."""
    user_ids: pa.LargeStringArray
    """Id or pseudonym of each user row, (n_users,)."""
    facts: LogFacts
    """Facts about the log."""
    names: Pseudonymizer = PLAIN_IDS
    """Pseudonymizer that turns a user's id into the name in `user_ids`."""

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items of the catalog."""
        return len(self.catalog)

    def find_user_row(self, user: Id) -> int:
        """Return the row of a user.

        Args:
            user: Id or pseudonym of the user.

        Returns:
            User row.

        Raises:
            ConfigError: If the log has no such user, or the key of its pseudonyms is missing or wrong.
        """
        name = self.names.pseudonym(format_id(user))
        row: int = self.user_ids.index(name).as_py()
        if row < 0:
            example = f"Give an id such as {self.user_ids[0]}."
            raise ConfigError(f"user {name!r}: no events in {self.facts.source}. {example}")
        return row


def make_log(
    source: str,
    interactions: Interactions,
    catalog: ItemCatalog,
    user_ids: pa.LargeStringArray,
    *,
    resolution: Resolution,
    n_repeats_dropped: int = 0,
    n_unknown_items_dropped: int = 0,
    n_dropped_by_k_core: int = 0,
    names: Pseudonymizer = PLAIN_IDS,
    n_scrubbed: Mapping[str, int] | None = None,
    n_faulty: Mapping[str, int] | None = None,
) -> Log:
    """Make a log and compute its facts.

    Args:
        source: Name of the folder, file or data set.
        interactions: Events in time order, at least one.
        catalog: Catalog of items.
        user_ids: Id or pseudonym of each user row, (n_users,).
        resolution: Resolution of the times as written.
        n_repeats_dropped: Number of events dropped as repeats.
        n_unknown_items_dropped: Number of events dropped because their item is unknown.
        n_dropped_by_k_core: Number of events dropped because their user or item has too few.
        names: Pseudonymizer of the user ids.
        n_scrubbed: Number of personal details removed from item texts, by kind.
        n_faulty: Number of faulty rows dropped, of events and of items.

    Returns:
        The log.
    """
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
        n_faulty=dict(n_faulty or {}),
        odd_times=() if resolution == "order" else describe_odd_times(interactions.time),
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
