"""How one user's interest moved, by a bundle and its log."""

from __future__ import annotations

from pathlib import Path

from llmrec.config.data import DataConfig
from llmrec.data.splits import make_split
from llmrec.data.timestamps import iso
from llmrec.drift.user_profile import UserDrift, user_drift
from llmrec.errors import ConfigError
from llmrec.hub.bundle import load_bundle
from llmrec.hub.remote import bundle_folder
from llmrec.hub.training_log import log_config, log_of
from llmrec.inference.queries import seconds_of


def drift_of(bundle: Path, user: str, at: str | None, data: DataConfig | None) -> UserDrift:
    """A user's interest as of `at`, by the drift head of a bundle.

    Raises:
        ConfigError: no drift head, a log of other items, an unknown user, or one without events before `at`.
    """
    loaded = load_bundle(bundle_folder(bundle))
    if loaded.drift is None or loaded.config.drift is None:
        raise ConfigError(f"{bundle} holds no drift head; train it with drift: {{}} in the recipe, or --drift '{{}}'")
    log = log_of(loaded, log_config(loaded.config.data, data))
    if log.catalog.ids.to_pylist() != loaded.catalog.ids[: len(log.catalog)].to_pylist():
        raise ConfigError(f"{log.facts.source}: its items are not those of the bundle, in order; give the bundle's log")
    row = log.user_row(user)
    times = log.interactions.time[log.interactions.user == row]
    moment = int(times[-1]) + 1 if at is None else seconds_of(at)
    if times[0] >= moment:
        raise ConfigError(f"user {log.user_ids[row]} has no events before {at}; the first is at {iso(int(times[0]))}")
    config = loaded.config
    split, ties = make_split(config.split.names[0], log.interactions, log.n_users, log.n_items, config.split)
    stream = loaded.drift.stream(loaded.config.drift, split, ties, by_text=False)
    return user_drift(loaded.drift.head, stream, (row, str(log.user_ids[row])), moment, log.catalog.label)
