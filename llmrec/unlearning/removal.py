"""What `llmrec forget` tells of its work. Users are counted and not named."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LogRemoval:
    """n_users, n_events: left out; n_left: events of others. n_trained, n_chosen_by: events that weights were trained
    on, and that they were chosen by.
    """

    n_users: int
    n_events: int
    n_left: int
    n_trained: int
    n_chosen_by: int


@dataclass(frozen=True)
class ForgetResult:
    """n_new: items that nobody else touched in training. recounted: whether the bundle holds counts. n_stored_events:
    None without a store. learned: files of weights that stay; retrain: how to make them anew. n_searched: files whose
    every byte was searched, None for ids too short for that; traces: how often an id was found, in which of them.
    """

    log: LogRemoval
    n_new: int
    recounted: bool
    n_states: int
    n_stored_events: int | None
    n_cached_files: int
    learned: tuple[str, ...]
    retrain: str
    n_searched: int | None
    traces: dict[str, int]
