"""One safetensors file with facts in JSON in its header, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from llmrec.drift.head import DriftHead
from llmrec.drift.stream import ReplayStream
from llmrec.errors import LlmrecError
from llmrec.utils.arrays import Arrays

FORMAT = "live state 2"
HEADER = "llmrec"  # the one entry of the file's own metadata


class StateError(LlmrecError, ValueError):
    """A saved live state that is damaged, or belongs to another head."""


def state_metadata(head: DriftHead, stream: ReplayStream) -> dict[str, Any]:
    """What a saved state must share with the head and stream that go on from it."""
    digest = hashlib.sha256()
    if "chain" in head.terms and stream.chain is not None:
        for weight in stream.chain.chain.state_dict().values():
            digest.update(weight.numpy().tobytes())
    return {
        "format": FORMAT,
        "half_lives_days": stream.config.half_lives_days,
        "transitions": asdict(stream.new_counts().transitions.settings),
        "chain": digest.hexdigest(),
    }


def write_state(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """A file that is already there is replaced, once the new one is on disk."""
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
    """Arrays and facts.

    Raises:
        StateError: no such file, a truncated one, or one that something else wrote.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})[HEADER])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError, LookupError, ValueError) as error:
        raise unreadable_error(path, error) from error


def check_metadata(path: Path, facts: Any, expected: Mapping[str, Any]) -> None:
    """
    Raises:
        StateError: a fact differs from what is expected.
    """
    found = facts if isinstance(facts, dict) else {}
    expected = json.loads(json.dumps(expected))
    differing = [name for name in expected if found.get(name) != expected[name]]
    if differing:
        listed = ", ".join(f"{name} {found.get(name)!r} where {expected[name]!r} is needed" for name in differing)
        raise StateError(f"{path}: made for another head or catalog, {listed}; load it with its own, or begin anew")


def resize_items(arrays: Arrays, n_items: int, wanted: int) -> Arrays:
    """A state of `n_items` items as one of `wanted`: the new ones are untouched.

    Raises:
        ValueError: fewer are wanted.
    """
    more = wanted - n_items
    if more < 0:
        raise ValueError(f"it knows {n_items} items and the catalog has {wanted}; add the others first")
    grown = {name: np.pad(array, (0, more), mode="edge") for name, array in arrays.items() if name.endswith(".indptr")}
    sums = np.pad(arrays["environment.sums"], ((0, 0), (0, more)))
    row_sums = np.pad(arrays["transitions.row_sums"], (0, more))
    return arrays | grown | {"environment.sums": sums, "transitions.row_sums": row_sums}


def unreadable_error(path: Path, error: Exception) -> StateError:
    return StateError(f"{path}: no live state that can be read ({error}); restore a copy, or begin anew")
