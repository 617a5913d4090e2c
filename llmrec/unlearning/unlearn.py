"""Users forgotten everywhere: in the log, in a bundle's counts, in saved states and stores, and in caches.

What was counted is counted anew from the log without them, and is to the last bit what it would be had they never been
there. What was learned stays learned: that takes training anew, and the report says of what.
"""

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

REPORT, RECIPE, LOG, BUNDLE, STATES = "forgotten.json", "finetune.yaml", "log", "bundle", "states"


@dataclass(frozen=True)
class ForgetRequest:
    """Whom to forget, and where. output: a new folder for a log, a bundle and states without them, while all else stays
    as it is; None: in place. states: files of `save_state`. store: its URL, and the folder of its snapshots.
    """

    bundle: Path
    users: tuple[str, ...]
    data: DataConfig | None = None
    output: Path | None = None
    states: tuple[Path, ...] = ()
    store: str | None = None
    snapshots: Path | None = None
    backbone: str | None = None

    def __post_init__(self) -> None:
        if not self.users:
            raise ConfigError("nobody to forget; give --user ID ...")
        if self.store is not None and self.output is not None:
            raise ConfigError("store: a database is changed where it is; give --in-place rather than --output")
        if self.output is None and not self.bundle.exists():
            raise ConfigError(f"{self.bundle} is no folder here; for one of the hub give --output, and push it again")


class OutputPaths(NamedTuple):
    """Where things without the users go. reading: how to read the log there; config: how it will be read later."""

    reading: DataConfig
    config: DataConfig
    bundle: Path
    states: tuple[Path, ...]


def forget_users(wish: ForgetRequest) -> ForgetResult:
    """Do as is wished.

    Raises:
        ConfigError: users whom nothing knows, a log of other items, or one that is in no file. DataError: a log that
        cannot be read, or of which nothing would be left. BundleError, StateError, StoreError: as these raise.
    """
    folder = resolve_bundle(wish.bundle)
    bundle = load_bundle(folder, wish.backbone)
    config = override_data_config(bundle.config.data, wish.data)
    names = Pseudonymizer(config.pseudonyms, bundle.facts.get("pseudonyms")).require_key()
    called = [names.pseudonym(user) for user in wish.users]
    records, whole = find_user_records(config, wish.users, names), load_log(config)
    states = [LiveUsers.load(ServedCatalog(bundle, folder, wish.backbone), path) for path in wish.states]
    _validate_request(wish, bundle, records, whole, any(user in live.users for live in states for user in called))
    split, theirs = _split(bundle, whole)[0], _user_event_mask(whole, called)
    with _plan_outputs(wish, folder, config, records) as places:
        changed = _rebuild_bundle(bundle, places, whole, split, theirs, len(records.ids))
        save_bundle(places.bundle, changed)
        for live, path in zip(states, places.states, strict=True):
            for user in set(called) & live.users.keys():
                live.forget(user, lambda: whole)
            live.save(path)
        if wish.output is not None:
            _describe(places.bundle)
    n_stored = None if wish.store is None else _delete_from_store(wish.store, wish.snapshots, called)
    ids = filter_searchable_ids([*wish.users, *called, *records.ids])
    files = list_files(_list_written_files(wish, folder, config))
    return ForgetResult(
        _count_removed(bundle, records, split, theirs),
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


def _validate_request(
    wish: ForgetRequest, bundle: Bundle, records: RemovedRecords, whole: Log, in_states: bool
) -> None:
    if not whole.catalog.ids.equals(bundle.catalog.ids[: whole.n_items]):
        raise ConfigError(f"{whole.facts.source}: its items are not the bundle's, in order; give the bundle's log")
    # A bundle of another log may still count who is no longer in this one.
    same = whole.facts.fingerprint == bundle.facts["fingerprint"]
    if same and wish.store is None and not in_states and not records.theirs.any():
        raise ConfigError(f"{whole.facts.source} has no such user, nor has a state; nothing was changed")


@contextmanager
def _plan_outputs(
    wish: ForgetRequest, folder: Path, config: DataConfig, records: RemovedRecords
) -> Iterator[OutputPaths]:
    """The log is written without the users, and takes its place when all else is done."""
    if wish.output is not None:
        with atomic_folder(wish.output, REPORT, "what llmrec forget wrote") as partial:
            reading = write_log_without_users(config, records.theirs, partial / LOG)
            (partial / STATES).mkdir()
            states = tuple(partial / STATES / path.name for path in wish.states)
            (partial / REPORT).write_text(json.dumps({"n_users": len(records.ids)}) + "\n", encoding="utf-8")
            yield OutputPaths(reading, replace(reading, source=str(wish.output / LOG)), partial / BUNDLE, states)
        return
    events, _ = list_data_files(config)
    new = events.with_name(f".{events.stem}.{os.getpid()}.partial{events.suffix}")
    try:
        copy_without_records(events, new, records.theirs)
        yield OutputPaths(replace(config, interactions=str(new)), config, folder, wish.states)
        new.chmod(events.stat().st_mode)
        new.replace(events)
    finally:
        new.unlink(missing_ok=True)


def _rebuild_bundle(
    bundle: Bundle, places: OutputPaths, whole: Log, split: Split, theirs: Mask, n_users: int
) -> Bundle:
    """The bundle with what was counted without the users: drift counts, and which items training has touched."""
    left = load_log(places.reading)
    drift, settings = bundle.drift, bundle.config.drift
    if drift is not None and settings is not None:
        drift = drift.recount(settings, *_split(bundle, left))
    learned_from = (split.merge_validation() if bundle.config.train.refit else split).part == TRAIN
    touched = torch.zeros(len(bundle.catalog), dtype=torch.bool)
    touched[torch.from_numpy(whole.interactions.item[learned_from & ~theirs])] = True
    model = deepcopy(bundle.model)
    gone = model.items.known & ~touched.to(model.items.known.device)
    model.items.known &= ~gone
    if model.items.ids is not None:
        model.items.ids.weight.data[gone] = 0  # as new items have it
    facts = asdict(replace(left.facts, source=whole.facts.source))
    facts["n_forgotten"] = bundle.facts.get("n_forgotten", 0) + n_users
    config = replace(bundle.config, data=places.config)
    return replace(bundle, config=config, model=model, drift=drift, facts=facts)


def _count_removed(bundle: Bundle, records: RemovedRecords, split: Split, theirs: Mask) -> LogRemoval:
    valid = split.part == VALID
    trained = (split.part == TRAIN) | valid if bundle.config.train.refit else split.part == TRAIN
    return LogRemoval(
        n_users=len(records.ids),
        n_events=int(records.theirs.sum()),
        n_left=int((~records.theirs).sum()),
        n_trained=int((theirs & trained).sum()),
        n_chosen_by=int((theirs & valid).sum()),
    )


def _split(bundle: Bundle, log: Log) -> tuple[Split, Ties]:
    config = bundle.config.split
    return make_split(config.names[0], log.interactions, log.n_users, log.n_items, config)


def _user_event_mask(log: Log, called: Sequence[str]) -> Mask:
    """(E,) the events of users by their names."""
    rows = pc.index_in(pa.array(called, pa.large_string()), value_set=log.user_ids).drop_null()
    return np.isin(log.interactions.user, np.asarray(rows))


def _delete_from_store(url: str, snapshots: Path | None, called: Sequence[str]) -> int:
    """The number of events that were stored of the users. Processes that serve from the store take note."""
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
    """The recipe's settings beside a bundle, to train anew by."""
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
