"""Removal of users from a log, a bundle's counts, saved states, stores and caches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import yaml

from llmrec.backbones.text_vector_cache import delete_history_vectors
from llmrec.config.data import DataConfig
from llmrec.data.interactions import Ties
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.data.pseudonyms import Pseudonymizer
from llmrec.data.readers.files import list_data_files
from llmrec.data.repeats import count_repeats
from llmrec.data.splits import TRAIN, VALID, Split, make_split
from llmrec.errors import ConfigError
from llmrec.hub.bundle import Bundle, load_bundle, save_bundle
from llmrec.hub.bundle_record import read_record
from llmrec.hub.layout import LAYOUT, TUNED, atomic_folder
from llmrec.hub.remote import resolve_bundle
from llmrec.hub.training_log import override_data_config
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.unlearning.id_search import filter_searchable_ids, find_ids, list_files
from llmrec.unlearning.log_files import RemovedRecords, copy_without_records, find_user_records, write_log_without_users
from llmrec.unlearning.removal import ForgetResult, LogRemoval
from llmrec.utils.arrays import Mask

# Counts are recomputed from the log without the users, and equal to the last bit what they would be if the users had
# never been there. Trained weights do not change: that takes training again, and the result says of which files.
REPORT, RECIPE, LOG, BUNDLE, STATES = "forgotten.json", "finetune.yaml", "log", "bundle", "states"


@dataclass(frozen=True)
class ForgetRequest:
    """Request to remove users from a log, a bundle, saved states and a store."""

    bundle: Path
    """Folder or Hub name of the bundle."""
    users: tuple[str, ...]
    """Ids or pseudonyms of the users."""
    data: DataConfig | None = None
    """Sources of the log if they differ from the bundle's record."""
    output: Path | None = None
    """New folder for a log, a bundle and states without the users; None changes them in place."""
    states: tuple[Path, ...] = ()
    """Files of saved states."""
    store: str | None = None
    """URL of the event store; None without one."""
    snapshots: Path | None = None
    """Folder of the snapshots of the store."""
    backbone: str | None = None
    """Name of the backbone to use instead of the recorded one."""

    def __post_init__(self) -> None:
        if not self.users:
            raise ConfigError("no user to forget. Give --user ID.")
        if self.store is not None and self.output is not None:
            raise ConfigError("store: a database can only be changed in place. Give --in-place instead of --output.")
        if self.output is None and not self.bundle.exists():
            raise ConfigError(
                f"{self.bundle}: no such folder. For a bundle of the Hub, give --output and push the result."
            )


class OutputPaths(NamedTuple):
    """Paths to which the data without the users is written."""

    reading: DataConfig
    """Configuration that reads the new log now."""
    config: DataConfig
    """Configuration that reads it once everything is in place."""
    bundle: Path
    """Folder of the bundle."""
    states: tuple[Path, ...]
    """Files of the states."""


def forget_users(wish: ForgetRequest) -> ForgetResult:
    """Remove users from a log, a bundle, saved states and a store.

    Args:
        wish: The request.

    Returns:
        Numbers of removed records, and the files whose weights remain.

    Raises:
        ConfigError: If no source has such a user, or the log has other items or is not in files.
        DataError: If the log cannot be read, or no event would be left.
        BundleError: If the bundle cannot be loaded.
        StateError: If a state cannot be loaded.
        StoreError: If the store cannot be changed.
    """
    folder = resolve_bundle(wish.bundle)
    bundle = load_bundle(folder, wish.backbone)
    config = override_data_config(bundle.config.data, wish.data)
    names = Pseudonymizer(config.pseudonyms, bundle.facts.get("pseudonyms")).require_key()
    called = [names.pseudonym(user) for user in wish.users]
    records, whole = find_user_records(config, wish.users, names), load_log(config)
    states = [
        _load_live_users(ServedCatalog(bundle, folder, backbone=wish.backbone), whole, path) for path in wish.states
    ]
    _validate_request(
        wish, bundle, records, whole, in_states=any(user in live.users for live in states for user in called)
    )
    split, removed = _split(bundle, whole)[0], _user_event_mask(whole, called)
    with _plan_outputs(wish, folder, config, records) as places:
        changed = _rebuild_bundle(bundle, places, whole, split, removed=removed, n_users=len(records.ids))
        save_bundle(places.bundle, changed)
        for live, path in zip(states, places.states, strict=True):
            for user in set(called) & live.users.keys():
                live.forget(user, log=whole)
            live.save(path)
        if wish.output is not None:
            _describe(places.bundle)
    n_stored = None if wish.store is None else _delete_from_store(wish.store, wish.snapshots, called)
    ids = filter_searchable_ids([*wish.users, *called, *records.ids])
    files = list_files(_list_written_files(wish, folder, config))
    return ForgetResult(
        _count_removed(bundle, records, split, removed),
        n_new=int((bundle.model.items.known & ~changed.model.items.known).sum()),
        recounted=changed.drift is not None and changed.drift.counts is not None,
        n_states=len(states),
        n_stored_events=n_stored,
        n_cached_files=delete_history_vectors(),
        learned=_trained_parts(bundle),
        retrain=_retrain_command(wish),
        n_searched=len(files) if ids else None,
        traces={str(path): count for path, count in find_ids(files, ids).items()},
    )


def _load_live_users(catalog: ServedCatalog, log: Log, path: Path) -> LiveUsers:
    live = LiveUsers(catalog, lambda: log)
    live.load(path)
    return live


def _validate_request(
    wish: ForgetRequest, bundle: Bundle, records: RemovedRecords, whole: Log, *, in_states: bool
) -> None:
    if not whole.catalog.ids.equals(bundle.catalog.ids[: whole.n_items]):
        raise ConfigError(
            f"{whole.facts.source}: its items differ from the bundle's in ids or order. Give the bundle's log."
        )
    # A bundle of another log may still count users who are no longer in this one.
    same = whole.facts.fingerprint == bundle.facts["fingerprint"]
    if same and wish.store is None and not in_states and not records.mask.any():
        raise ConfigError(
            f"{whole.facts.source}: no such user in the log or a state, and nothing was changed. Check the ids."
        )


@contextmanager
def _plan_outputs(
    wish: ForgetRequest, folder: Path, config: DataConfig, records: RemovedRecords
) -> Iterator[OutputPaths]:
    """Write the log without the users; it replaces the old one when everything else is done."""
    if wish.output is not None:
        with atomic_folder(wish.output, REPORT, kind="what llmrec forget wrote") as partial:
            reading = write_log_without_users(config, records.mask, partial / LOG)
            (partial / STATES).mkdir()
            states = tuple(partial / STATES / path.name for path in wish.states)
            (partial / REPORT).write_text(json.dumps({"n_users": len(records.ids)}) + "\n", encoding="utf-8")
            yield OutputPaths(reading, replace(reading, source=str(wish.output / LOG)), partial / BUNDLE, states)
        return
    events, _ = list_data_files(config)
    new = events.with_name(f".{events.stem}.{os.getpid()}.partial{events.suffix}")
    try:
        copy_without_records(events, new, records.mask, style=config.interactions_format)
        yield OutputPaths(replace(config, interactions=str(new.resolve())), config, folder, wish.states)
        new.chmod(events.stat().st_mode)
        new.replace(events)
    finally:
        new.unlink(missing_ok=True)


def _rebuild_bundle(
    bundle: Bundle, places: OutputPaths, whole: Log, split: Split, *, removed: Mask, n_users: int
) -> Bundle:
    """Return the bundle with drift counts and known items as they are without the users."""
    left = load_log(places.reading)
    drift, settings = bundle.drift, bundle.config.drift
    if drift is not None and settings is not None:
        drift = drift.recount(settings, *_split(bundle, left))
    learned_from = (split.merge_validation() if bundle.config.train.refit else split).part == TRAIN
    has_events = torch.zeros(len(bundle.catalog), dtype=torch.bool)
    has_events[torch.from_numpy(whole.interactions.item[learned_from & ~removed])] = True
    model = deepcopy(bundle.model)
    forgotten = model.items.known & ~has_events.to(model.items.known.device)
    model.items.known &= ~forgotten
    if model.items.ids is not None:
        model.items.ids.weight.data[forgotten] = 0  # as for new items
    if model.repeats:
        model.repeats.set_rates(*count_repeats(whole.interactions.take(learned_from & ~removed), len(bundle.catalog)))
    facts = asdict(replace(left.facts, source=whole.facts.source))
    facts["n_forgotten"] = bundle.facts.get("n_forgotten", 0) + n_users
    config = replace(bundle.config, data=places.config)
    return replace(bundle, config=config, model=model, drift=drift, facts=facts)


def _count_removed(bundle: Bundle, records: RemovedRecords, split: Split, removed: Mask) -> LogRemoval:
    valid = split.part == VALID
    trained = (split.part == TRAIN) | valid if bundle.config.train.refit else split.part == TRAIN
    return LogRemoval(
        n_users=len(records.ids),
        n_events=int(records.mask.sum()),
        n_left=int((~records.mask).sum()),
        n_trained=int((removed & trained).sum()),
        n_chosen_by=int((removed & valid).sum()),
    )


def _split(bundle: Bundle, log: Log) -> tuple[Split, Ties]:
    config = bundle.config.split
    return make_split(config.names[0], log.interactions, log.n_users, log.n_items, config=config)


def _user_event_mask(log: Log, called: Sequence[str]) -> Mask:
    """Return True for the events of users, by their names in the log, (E,)."""
    rows = pc.index_in(pa.array(called, pa.large_string()), value_set=log.user_ids).drop_null()
    return np.isin(log.interactions.user, np.asarray(rows))


def _delete_from_store(url: str, snapshots: Path | None, called: Sequence[str]) -> int:
    """Delete users from the event store, whose replicas follow, and return their number of stored events."""
    from llmrec.inference.live.replica import prune_snapshots
    from llmrec.inference.live.store.event_store import EventStore

    store = EventStore(url)
    try:
        n_events = sum(store.delete_user(user, of_log=True) for user in called)
        prune_snapshots(store, snapshots)
    finally:
        store.close()
    return n_events


def _describe(bundle: Path) -> None:
    """Write the settings of the recipe next to a bundle, for training again."""
    settings = read_record(bundle)["config"]
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    (bundle.parent / RECIPE).write_text(text, encoding="utf-8")


def _trained_parts(bundle: Bundle) -> tuple[str, ...]:
    drift = () if bundle.drift is None else (LAYOUT.drift,)
    return (LAYOUT.heads, *drift, *(name for name in TUNED[bundle.config.backbone.strategy] if "config" not in name))


def _retrain_command(wish: ForgetRequest) -> str:
    if wish.output is None:
        return "accelerate launch recipes/finetune.py --config ..., as it was made"
    return f"accelerate launch recipes/finetune.py --config {wish.output / RECIPE} --output {wish.output / 'trained'}"


def _list_written_files(wish: ForgetRequest, folder: Path, config: DataConfig) -> list[Path]:
    if wish.output is not None:
        return [wish.output]
    url = wish.store or ""
    store = [Path(url.removeprefix("sqlite:///"))] if url.startswith("sqlite:///") or (url and "://" not in url) else []
    return [*list_data_files(config), folder, *wish.states, *store, *filter(None, [wish.snapshots])]
