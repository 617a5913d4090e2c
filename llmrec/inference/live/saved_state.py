"""Saving of an online state to one file, and loading of it to continue to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmrec.config.drift import MAX_HISTORY
from llmrec.drift.head import DriftHead
from llmrec.drift.stream import ReplayStream, take_prefix
from llmrec.drift.terms.pair_counts import NO_USER
from llmrec.inference.live.online_state import OnlineState
from llmrec.inference.live.state_file import (
    check_metadata,
    read_state,
    resize_items,
    state_metadata,
    unreadable_error,
    write_state,
)
from llmrec.utils.arrays import Arrays

WAITING, SEEN = "waiting.events", "seen"
FREE_SIZE = WAITING, f"{SEEN}.item"  # arrays whose size the number of users and items does not give


def save_state(state: OnlineState, path: Path, *, also: Arrays | None = None) -> None:
    """Write a state to one file, whole or not at all.

    Args:
        state: State to save.
        path: File to write.
        also: More arrays to write, which `load_state` ignores.
    """
    sizes = {"n_users": state.n_users, "n_items": state.stream.n_items}
    write_state(path, (also or {}) | _collect_arrays(state), state_metadata(state.head, state.stream) | sizes)


def load_state(path: Path, head: DriftHead, stream: ReplayStream, *, most: int = MAX_HISTORY) -> OnlineState:
    """Load a saved state, to continue from it to the bit.

    Args:
        path: File to read.
        head: Fitted weights.
        stream: Stream that the head was fitted with; items may have been added since.
        most: Last events in a history.

    Returns:
        The state.

    Raises:
        StateError: If the file is damaged or foreign, or of another chain, other settings or more items.
    """
    arrays, facts = read_state(path)
    check_metadata(path, facts, state_metadata(head, stream))
    try:
        arrays = resize_items(arrays, int(facts["n_items"]), stream.n_items)
        state = OnlineState(head, replace(stream, n_users=len(arrays["item"])), most=most)
        _restore(state, arrays, int(facts["n_users"]))
    except (LookupError, TypeError, ValueError) as error:
        raise unreadable_error(path, error) from error
    return state


def _collect_arrays(state: OnlineState) -> Arrays:
    """Collect all arrays without copies, except of the waiting events."""
    arrays: Arrays = {"item": state.last.item, "time": state.last.time, WAITING: state.counted.pending_events()}
    for states in state.users.values():
        arrays |= states.export_state()
    seen = {f"{SEEN}.{key}": array for key, array in state.seen.export_state().items()}
    return arrays | state.counted.counts.export_state() | seen


def _restore(state: OnlineState, arrays: Arrays, n_users: int) -> None:
    for name, own in _collect_arrays(state).items():
        saved = arrays[name]
        if name not in FREE_SIZE and (saved.shape, saved.dtype) != (own.shape, own.dtype):
            raise ValueError(f"{name} is {saved.dtype} {saved.shape}, not {own.dtype} {own.shape}")
    seen = take_prefix(arrays, SEEN)
    largest = max(int(rows.max(initial=NO_USER)) for rows in (arrays["item"], seen["item"]))
    if largest >= state.stream.n_items or not 0 <= n_users <= len(state.last):
        raise ValueError("it names items or users that there are not")
    state.counted.restore(arrays[WAITING], n_users, state.stream.n_items)
    state.n_users, state.last.item, state.last.time = n_users, arrays["item"], arrays["time"]
    for states in state.users.values():
        states.restore(arrays)
    state.counted.counts.restore(arrays)
    state.seen.restore(seen)
