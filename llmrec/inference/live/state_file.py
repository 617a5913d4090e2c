"""Files of saved states: safetensors with facts as JSON in the header, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from llmrec.drift.head import DriftHead
from llmrec.drift.stream import ReplayStream, take_prefix
from llmrec.drift.terms import SWITCHES
from llmrec.errors import LlmrecError
from llmrec.utils.arrays import Arrays

FORMAT = "live state 2"
HEADER = "llmrec"  # the only entry of the file's own metadata


class StateError(LlmrecError, ValueError):
    """Error of a saved live state that is damaged or belongs to another head."""


def state_metadata(head: DriftHead, stream: ReplayStream) -> dict[str, Any]:
    """Return the facts that a saved state must share with the head and stream that continue from it.

    Args:
        head: Fitted weights.
        stream: Stream that the head was fitted with.

    Returns:
        Facts by name.
    """
    facts: dict[str, Any] = {"format": FORMAT}
    for _, term in head.iterate_terms():
        facts |= term.identify(head, stream)
    return facts


def write_state(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Write arrays and facts to a file; an existing one is replaced once the new one is on disk.

    Args:
        path: File to write.
        arrays: Arrays by name.
        facts: Facts by name, as JSON can hold them.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            file.write(save(whole, {HEADER: json.dumps(facts)}))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_state(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read the arrays and facts of a file.

    Args:
        path: File to read.

    Returns:
        Arrays and facts by name.

    Raises:
        StateError: If the file is missing, truncated or of another program.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})[HEADER])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError, LookupError, ValueError) as error:
        raise unreadable_error(path, error) from error


def check_metadata(path: Path, facts: Any, expected: Mapping[str, Any]) -> None:
    """Check the facts of a file.

    Args:
        path: File that the facts come from, for the message.
        facts: Facts of the file.
        expected: Facts that it must have.

    Raises:
        StateError: If a fact differs from the expected one.
    """
    found = facts if isinstance(facts, dict) else {}
    expected = json.loads(json.dumps(expected))
    differing = [name for name in expected if found.get(name) != expected[name]]
    if differing:
        listed = ", ".join(f"{name} {found.get(name)!r} where {expected[name]!r} is needed" for name in differing)
        raise StateError(f"{path}: made for another head or catalog, {listed}; use its own, or start without it")


def resize_items(arrays: Arrays, n_items: int, wanted: int) -> Arrays:
    """Resize the arrays of a state to more items; the new ones have no events.

    Args:
        arrays: Arrays by name.
        n_items: Items of the arrays.
        wanted: Items to resize to.

    Returns:
        The resized arrays.

    Raises:
        ValueError: If `wanted` is smaller than `n_items`.
    """
    more = wanted - n_items
    if more < 0:
        raise ValueError(f"it knows {n_items} items and the catalog has {wanted}; add the others first")
    grown = dict(arrays)
    for name, term in SWITCHES.items():
        if own := take_prefix(arrays, name):
            grown |= {f"{name}.{key}": array for key, array in term.resize_state(own, more).items()}
    return grown


def unreadable_error(path: Path, error: Exception) -> StateError:
    """Build the error of a file that cannot be read.

    Args:
        path: The file.
        error: Cause.

    Returns:
        The error to raise.
    """
    return StateError(f"{path}: no live state that can be read ({error}); restore a copy, or start without it")
