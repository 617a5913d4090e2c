"""Saving of live users to one file, with their ids and a hash of the items that their events are on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmrec.inference.live.new_state import get_history_limit, make_state
from llmrec.inference.live.online_state import OnlineState
from llmrec.inference.live.saved_state import load_state, save_state
from llmrec.inference.live.state_file import StateError, read_state, unreadable_error
from llmrec.inference.served_catalog import ServedCatalog

IDS, CATALOG = "user_ids", "catalog"  # arrays of the file in addition to those of the state


def save_users(path: Path, state: OnlineState, users: Mapping[str, int], catalog: ServedCatalog) -> None:
    """Write users, histories and counts to one file.

    Args:
        path: File to write.
        state: State of the users.
        users: Rows of the state by user id.
        catalog: The items of the events.
    """
    rows = {row: user for user, row in users.items()}
    ids = json.dumps([rows.get(row) for row in range(state.n_users)]).encode()
    own = {IDS: np.frombuffer(ids, np.uint8), CATALOG: _hash_item_ids(catalog, state.stream.n_items)}
    save_state(state, path, also=own)


def load_users(path: Path, catalog: ServedCatalog) -> tuple[OnlineState, dict[str, int]]:
    """Read saved users.

    Args:
        path: File to read.
        catalog: The items of the events; it may have gained items since.

    Returns:
        State of the users, and its rows by user id.

    Raises:
        StateError: If the file is damaged, or of another bundle or of items that the catalog lacks.
    """
    arrays, facts = read_state(path)
    try:
        n_items = int(facts["n_items"])
        if n_items > len(catalog):
            raise StateError(f"{path}: it knows {n_items} items, the catalog {len(catalog)}; add those missing")
        if not np.array_equal(_hash_item_ids(catalog, n_items), arrays[CATALOG]):
            raise StateError(f"{path}: made for other items; load it with its own bundle, or start a new state")
        ids = json.loads(arrays[IDS].tobytes())
    except StateError:
        raise
    except (LookupError, TypeError, ValueError) as error:
        raise unreadable_error(path, error) from error
    new = make_state(catalog)
    state = load_state(path, new.head, new.stream, most=get_history_limit(catalog))
    return state, {user: row for row, user in enumerate(ids) if user is not None}


def _hash_item_ids(catalog: ServedCatalog, n_items: int) -> NDArray[np.uint8]:
    """Hash the ids of the first n items: only where these are equal do rows mean the same items."""
    ids = "\0".join(catalog.ids[:n_items].to_pylist())
    return np.frombuffer(hashlib.sha256(ids.encode()).digest(), np.uint8)
