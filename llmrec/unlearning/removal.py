"""Results of `llmrec forget`; users are counted and not named."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LogRemoval:
    """Numbers of users and events removed from a log."""

    n_users: int
    """Number of users removed."""
    n_events: int
    """Number of events removed."""
    n_left: int
    """Number of events of other users."""
    n_trained: int
    """Number of removed events that weights were trained on."""
    n_chosen_by: int
    """Number of removed events in the validation part, by which weights were selected."""


@dataclass(frozen=True)
class ForgetResult:
    """Result of removing users from a log, a bundle, saved states and a store."""

    log: LogRemoval
    """Users and events removed from the log."""
    n_new: int
    """Number of items whose training events all belonged to removed users."""
    recounted: bool
    """True if the bundle has drift counts, which were recomputed."""
    n_states: int
    """Number of saved states rewritten."""
    n_stored_events: int | None
    """Number of events deleted from the store; None without a store."""
    n_cached_files: int
    """Number of cache files with history vectors that were deleted."""
    learned: tuple[str, ...]
    """Files of trained weights, which did not change."""
    retrain: str
    """Command that trains them again."""
    n_searched: int | None
    """Number of files searched for the ids; None if the ids are too short to search for."""
    traces: dict[str, int]
    """Number of occurrences of the ids that remain, by file."""
