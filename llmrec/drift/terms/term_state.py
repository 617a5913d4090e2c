"""Interfaces of what a term keeps of events: counts of all users, and a state of each live user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from llmrec.drift.terms.term_inputs import Events, Stream
from llmrec.utils.arrays import Arrays, Rows

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11


class TermCounts(Protocol):
    """Counts that a term keeps of the events of all users; users and items are rows."""

    def observe(self, events: Events) -> None:
        """Count events in any order; an event given twice counts twice.

        Args:
            events: Events, as rows of users and items.
        """

    def with_events(self, events: Events) -> Self:
        """Return a copy, for reading only, that has counted more events.

        Args:
            events: Events to add.

        Returns:
            Copy with these events counted.
        """

    def subtract(self, events: Events) -> None:
        """Subtract all counted events of one user, in order of time.

        Args:
            events: All counted events of the user, in order of time.
        """

    def forget(self, user: int) -> None:
        """Remove what is kept of a single user.

        Args:
            user: Row of the user.
        """

    def grow_users(self, n_users: int) -> None:
        """Add users up to `n_users`.

        Args:
            n_users: Number of users to have.
        """

    def grow_items(self, n_items: int) -> None:
        """Add items up to `n_items`.

        Args:
            n_items: Number of items to have.
        """

    def export_state(self) -> Arrays:
        """Return the arrays that `restore` continues from to the bit, without copies.

        Returns:
            Arrays by name.
        """

    def export_counts(self) -> Arrays:
        """Return the counts without anything that belongs to a single user.

        Returns:
            Arrays by name.
        """

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the arrays of `export_state`.

        Args:
            state: Arrays of `export_state`.

        Raises:
            LookupError: If an array is missing.
            ValueError: If the arrays do not fit.
        """

    def restore_counts(self, state: Mapping[str, NDArray[Any]], n_items: int) -> None:
        """Continue from the arrays of `export_counts`; raises as `restore`.

        Args:
            state: Of `n_items` items or fewer.
            n_items: Items to have afterwards.
        """


class UserStates(Protocol):
    """State that a term keeps of each live user; users are rows."""

    def observe(self, user: int, item: int, gap_seconds: int) -> None:
        """Record an event.

        Args:
            user: Row.
            item: Row.
            gap_seconds: Time since the user's newest event, 0 for a late or a first one.
        """

    def observe_many(self, user: Rows, item: Rows, gap_seconds: Rows) -> None:
        """Record events (E,) in order of arrival, as `observe` does one.

        Args:
            user: Row of the user of each event, (E,).
            item: Row of the item of each event, (E,).
            gap_seconds: Seconds since the user's newest event, (E,).
        """

    def forget(self, user: int) -> None:
        """Reset a user to the state of a new one.

        Args:
            user: Row of the user.
        """

    def grow_users(self, n_users: int) -> None:
        """Add new users up to `n_users`.

        Args:
            n_users: Number of users to have.
        """

    def set_stream(self, stream: Stream) -> None:
        """Continue with the tables of a stream that has more items.

        Args:
            stream: Stream that has more items.
        """

    def copy_rows(self, rows: Rows, other: Any, other_rows: Rows) -> None:
        """Copy the state of users from another object of this class.

        Args:
            rows: Users to change, (B,).
            other: Where the state comes from.
            other_rows: Users of `other`, (B,).
        """

    def read(self, users: Rows, gap_seconds: Rows) -> Tensor:
        """Return the state of users at a time.

        Args:
            users: Rows, (B,).
            gap_seconds: Time since each user's newest event, (B,).

        Returns:
            What `DriftTerm.read` gets as `state`, (B, ...).
        """

    def export_state(self) -> Arrays:
        """Return the arrays by their names in the state file, without copies.

        Returns:
            Arrays by name.
        """

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the arrays of `export_state`.

        Args:
            state: Arrays of `export_state`.
        """
