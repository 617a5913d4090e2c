"""Pair counts of the transitions term: item pairs within a few steps of a user, which decay with time.

An event of item i at time t adds to C[j, i], for each of the user's last W events (j at time t_j),

    steps^-1/2 * exp(-(t - t_j) / gap_days),        and `backward` times that to C[i, j],

and C decays with a half-life. C is sparse: memory grows with the pairs that occur, never with N x N. As in
`Environment`, sums are kept as of a reference time, so that decay costs nothing until they are read. They are in a few
tables of falling sizes, so that new pairs need not be written into the largest one each time (the logarithmic method of
Bentley & Saxe 1980, doi:10.1016/0196-6774(80)90015-2).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from llmrec.drift.terms.term_inputs import Events
from llmrec.utils.arrays import MAX_EXPONENT, NO_TIME, ROUNDING, Arrays, Rows, merge_small_tables, resize_sparse
from llmrec.utils.units import SECONDS_PER_DAY

NO_USER = -1  # empty position among a user's last events
TABLE_PARTS = "data", "indices", "indptr"  # of a sparse table


@dataclass(frozen=True)
class TransitionSettings:
    """Settings of pair counts."""

    window: int = 10
    """Events of a user that a new one is paired with."""
    gap_days: float = 180.0
    """Days between the events of a pair after which its weight has fallen to 1/e."""
    backward: float = 0.1
    """Weight of a pair against its order, 0 to 1."""
    half_life_days: float = 60.0
    """Half-life of all counts."""
    ties: Literal["strict", "file_order"] = "strict"
    """Order of events of one moment.

    With `strict` they have none: their pairs count the mean of both weights each way, and steps count moments; with
    `file_order` they follow the log's order.
    """


class Transitions:
    """Decaying pair counts of N items; the last W events of each user are kept to pair new ones with.

    A late event, older than the newest of its user, makes no pairs. An event given twice counts twice.

    Attributes:
        tables: (N, N) each; their sum is C as of `reference`.
        row_sums: (N,) row sums of C.
        last_item: (U, W) items of each user's last events, oldest first.
        last_time: (U, W) their times in seconds.
    """

    def __init__(self, n_items: int, n_users: int, *, settings: TransitionSettings = TransitionSettings()) -> None:
        self.settings = settings
        self.rate = 1 / (settings.half_life_days * SECONDS_PER_DAY)  # halvings per second
        self.reference: int | None = None
        self.tables: list[sparse.csr_array] = []
        self.row_sums: NDArray[np.float64] = np.zeros(n_items)
        self.last_item: Rows = np.full((n_users, settings.window), NO_USER, dtype=np.int64)
        self.last_time: Rows = np.full((n_users, settings.window), NO_TIME, dtype=np.int64)

    def observe(self, events: Events) -> None:
        """Pair new events, in any order, with the earlier ones of their users.

        Args:
            events: Events, as rows of users and items.
        """
        user, item, time, _ = events.in_order()
        fresh = time >= self.last_time[user, -1]
        user, item, time = user[fresh], item[fresh], time[fresh]
        if not len(user):
            return
        by_user = np.lexsort((time, user))  # stable
        source, target, weight, when = self._make_pairs(user[by_user], item[by_user], time[by_user])
        if len(source):
            self._add(source, target, weight, when)

    def with_events(self, events: Events) -> Transitions:
        """Return a copy, for reading only, that has counted more events and knows only their users.

        Args:
            events: Events to add.

        Returns:
            Copy with these events counted.
        """
        user, item, time, _ = events.in_order()
        other, (users, row) = copy(self), np.unique(user, return_inverse=True)
        other.last_item, other.last_time = self.last_item[users], self.last_time[users]
        # A separate table: merging it with the others each time would cost far more.
        other.tables, other.row_sums = [], self.row_sums.copy()
        other.observe(Events(row, item, time))
        decay = 1.0 if other.reference is None else self.decay_at(other.reference)
        other.tables = [*(self.tables if decay == 1 else [table * decay for table in self.tables]), *other.tables]
        return other

    def decay_at(self, time: int) -> float:
        """Return the factor that every sum has decayed by at a time, in seconds.

        Args:
            time: Seconds.

        Returns:
            Factor of the sums at that time.
        """
        return 1.0 if self.reference is None else float(np.exp2(-(time - self.reference) * self.rate))

    def grow_users(self, n_users: int) -> None:
        """Add users without events, up to `n_users`.

        Args:
            n_users: Number of users to have.
        """
        more = (0, n_users - len(self.last_item)), (0, 0)
        self.last_item = np.pad(self.last_item, more, constant_values=NO_USER)
        self.last_time = np.pad(self.last_time, more, constant_values=NO_TIME)

    def grow_items(self, n_items: int) -> None:
        """Add items without pairs, up to `n_items`.

        Args:
            n_items: Number of items to have.
        """
        self.tables = [resize_sparse(table, (n_items, n_items)) for table in self.tables]
        self.row_sums = np.pad(self.row_sums, (0, n_items - len(self.row_sums)))

    def forget(self, user: int) -> None:
        """Remove a user's last events, so that new ones are paired with none of them.

        Args:
            user: Row of the user.
        """
        self.last_item[user], self.last_time[user] = NO_USER, NO_TIME

    def subtract(self, events: Events) -> None:
        """Subtract the pairs of all counted events of one user, in order of time, to rounding.

        No pair is left that the other users do not have.

        Args:
            events: All counted events of the user, in order of time.
        """
        own = Transitions(len(self.row_sums), 1, settings=self.settings)
        own.observe(Events.from_user(events.item, events.time))
        if own.reference is None or self.reference is None:
            return
        scale = float(np.exp2((own.reference - self.reference) * self.rate))
        removed, shape = sparse.csr_array(sum(own.tables) * scale), (len(self.row_sums), len(self.row_sums))
        left = sparse.csr_array(sum(self.tables, sparse.csr_array(shape)) - removed)
        left = sparse.csr_array(left.multiply(left > removed * ROUNDING))
        left.eliminate_zeros()
        self.tables, self.row_sums = [left], self.row_sums - removed.sum(1)
        self.row_sums[np.diff(left.indptr) == 0] = 0

    def export_state(self) -> Arrays:
        """Return the arrays that `restore` continues from to the bit, without copies.

        Returns:
            Arrays by name.
        """
        reference = NO_TIME if self.reference is None else self.reference
        arrays: Arrays = {"reference": np.array([reference], dtype=np.int64), "row_sums": self.row_sums}
        arrays |= {"last_item": self.last_item, "last_time": self.last_time}
        for position, table in enumerate(self.tables):
            arrays |= {f"table{position}.{part}": getattr(table, part) for part in TABLE_PARTS}
        return arrays

    def export_counts(self) -> Arrays:
        """Return the state without users in half its size: one table in fp32, as of its newest pair or nearly.

        Returns:
            Arrays by name.
        """
        n_items = len(self.row_sums)
        total = sum(self.tables, sparse.csr_array((n_items, n_items)))
        largest = float(total.data.max(initial=1.0))  # of sums that grow with time: their decay stays within fp32
        halvings = np.floor(np.log2(largest)) if self.reference is not None else 0.0
        table = sparse.csr_array((total * 2.0**-halvings).astype(np.float32))
        reference = NO_TIME if self.reference is None else self.reference + round(halvings / self.rate)
        arrays: Arrays = {"reference": np.array([reference], dtype=np.int64)}
        arrays["row_sums"] = self.row_sums * 2.0**-halvings
        return arrays | {f"table0.{part}": getattr(table, part) for part in TABLE_PARTS}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the arrays of `export_state`, of the same settings.

        Args:
            state: Arrays of `export_state`.

        Raises:
            LookupError: If an array is missing.
            ValueError: If an array names items that do not exist.
        """
        shape = len(state["row_sums"]), len(state["row_sums"])
        n_tables = sum(name.endswith(".indptr") for name in state)
        parts = [tuple(state[f"table{position}.{part}"] for part in TABLE_PARTS) for position in range(n_tables)]
        if int(state["last_item"].max(initial=NO_USER)) >= shape[0]:
            raise ValueError("it names items or users that there are not")
        self.tables = [sparse.csr_array(part, shape=shape, copy=True) for part in parts]
        for table in self.tables:
            table.check_format(full_check=True)  # products with a malformed table would read beyond its ends
        self.row_sums = state["row_sums"].copy()
        self.last_item, self.last_time = state["last_item"].copy(), state["last_time"].copy()
        reference = int(state["reference"][0])
        self.reference = None if reference == NO_TIME else reference

    def restore_counts(self, state: Mapping[str, NDArray[Any]], n_items: int) -> None:
        """Continue from exported counts; users keep their last events.

        Args:
            state: Arrays of `export_counts`, of `n_items` items or fewer.
            n_items: Number of items to have.

        Raises:
            LookupError: If an array is missing.
            ValueError: If an array names items that do not exist.
        """
        last_item, last_time = self.last_item, self.last_time
        self.restore({**state, "last_item": last_item[:0], "last_time": last_time[:0]})
        self.grow_items(n_items)
        self.last_item, self.last_time = last_item, last_time

    def _make_pairs(self, user: Rows, item: Rows, time: Rows) -> tuple[Rows, Rows, NDArray[np.float64], Rows]:
        """Return (P,) source, target, weight and time of the pairs of new events, sorted by user and time."""
        window = self.settings.window
        users, counts = np.unique(user, return_counts=True)
        # Each user's last W events, then the new ones, one user after the other.
        first = np.concatenate([[0], np.cumsum(counts + window)[:-1]])
        old = (first[:, None] + np.arange(window)).ravel()
        items, times = np.empty((2, len(user) + len(old)), dtype=np.int64)
        new = np.setdiff1d(np.arange(len(items)), old, assume_unique=True)
        items[old], times[old] = self.last_item[users].ravel(), self.last_time[users].ravel()
        items[new], times[new] = item, time
        last = (first + window + counts)[:, None] + np.arange(-window, 0)
        self.last_item[users], self.last_time[users] = items[last], times[last]
        moment = np.concatenate([[0], np.cumsum(np.diff(times) != 0)])

        parts = [self._pairs_at_distance(steps, new, items, times, moment=moment) for steps in range(1, window + 1)]
        source, target, weight, when = (np.concatenate(column) for column in zip(*parts, strict=True))
        return source, target, weight, when

    def _pairs_at_distance(
        self, positions: int, new: Rows, items: Rows, times: Rows, *, moment: Rows
    ) -> tuple[Rows, Rows, NDArray[np.float64], Rows]:
        """Return the pairs of each new event with the one `positions` before it, in both directions."""
        settings = self.settings
        here = new[(items[new - positions] != NO_USER) & (items[new - positions] != items[new])]
        before = here - positions
        strict = settings.ties == "strict"
        steps = np.maximum(moment[here] - moment[before], 1) if strict else np.full(len(here), positions)
        gap = (times[here] - times[before]) / SECONDS_PER_DAY
        weight = steps**-0.5 * np.exp(-gap / settings.gap_days)
        unordered = (gap == 0) & strict
        forward = np.where(unordered, (1 + settings.backward) / 2, 1.0) * weight
        back = np.where(unordered, (1 + settings.backward) / 2, settings.backward) * weight
        source = np.concatenate([items[before], items[here]])
        target = np.concatenate([items[here], items[before]])
        return source, target, np.concatenate([forward, back]), np.tile(times[here], 2)

    def _add(self, source: Rows, target: Rows, weight: NDArray[np.float64], when: Rows) -> None:
        newest = int(when.max())
        if self.reference is None:
            self.reference = newest
        if (newest - self.reference) * self.rate > MAX_EXPONENT:
            decay = self.decay_at(newest)
            self.tables, self.row_sums = [table * decay for table in self.tables], self.row_sums * decay
            self.reference = newest
        weight = weight * np.exp2((when - self.reference) * self.rate)
        n_items = len(self.row_sums)
        self.tables.append(sparse.csr_array((weight, (source, target)), shape=(n_items, n_items)))
        merge_small_tables(self.tables)
        np.add.at(self.row_sums, source, weight)
