"""The drift of one user's interest, by a bundle and its log."""

from __future__ import annotations

from pathlib import Path

from llmrec.config.data import DataConfig
from llmrec.data.splits import make_split
from llmrec.data.times.timestamps import format_iso
from llmrec.drift.user_profile import UserDriftProfile, build_user_drift_profile
from llmrec.errors import ConfigError
from llmrec.hub.bundle import load_bundle
from llmrec.hub.remote import resolve_bundle
from llmrec.hub.training_log import load_bundle_log, override_data_config
from llmrec.inference.queries import parse_time


def load_user_drift(bundle: Path, user: str, at: str | None, data: DataConfig | None) -> UserDriftProfile:
    """Load a bundle and compute the profile of a user's interest by its drift head.

    Args:
        bundle: Folder of the bundle.
        user: The user's id.
        at: Query time; just after the user's last event if None.
        data: Settings that replace those of the bundle's log.

    Returns:
        The profile as of the query time.

    Raises:
        ConfigError: If there is no drift head, the log has other items, or the user is unknown or has no events before
            `at`.
    """
    loaded = load_bundle(resolve_bundle(bundle))
    if loaded.drift is None or loaded.config.drift is None:
        raise ConfigError(f"{bundle} holds no drift head; train it with drift: {{}} in the recipe, or --drift '{{}}'")
    log = load_bundle_log(loaded, override_data_config(loaded.config.data, data))
    if log.catalog.ids.to_pylist() != loaded.catalog.ids[: len(log.catalog)].to_pylist():
        raise ConfigError(
            f"{log.facts.source}: its items differ from the bundle's in ids or order. Give the bundle's log."
        )
    row = log.find_user_row(user)
    times = log.interactions.time[log.interactions.user == row]
    moment = int(times[-1]) + 1 if at is None else parse_time(at)
    if times[0] >= moment:
        raise ConfigError(
            f"user {log.user_ids[row]} has no events before {at}; the first is at {format_iso(int(times[0]))}"
        )
    config = loaded.config
    split, ties = make_split(config.split.names[0], log.interactions, log.n_users, log.n_items, config=config.split)
    stream = loaded.drift.build_stream(loaded.config.drift, split, ties, by_text=False)
    return build_user_drift_profile(
        loaded.drift.head, stream, (row, str(log.user_ids[row])), moment, label=log.catalog.label
    )
