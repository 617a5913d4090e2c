"""What the command line's verbs share: the recommender that was asked, and the history that it is asked about."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from llmrec.config import DataConfig
from llmrec.data.sources import load_log
from llmrec.errors import ConfigError
from llmrec.recommender import Event, Recommender, seconds_of

SHOWN_EVENTS = 5
PLACES = {"source", "interactions", "items"}  # another place is another place as a whole


def several(given: list[str] | str | None) -> list[str]:
    """One or many. Ids such as 0205616461 are left as they were written: the command line's YAML takes a list with
    numbers for no list of text, and passes it on whole.
    """
    if not isinstance(given, str):
        return given or []
    try:
        listed = yaml.load(given, Loader=yaml.BaseLoader) if given.startswith("[") else given
    except yaml.YAMLError:
        return [given]
    return listed if isinstance(listed, list) and all(isinstance(one, str) for one in listed) else [given]


def load(bundle: Path, backbone: str | None) -> Recommender:
    return Recommender.from_pretrained(bundle, backbone)


def log_config(trained: DataConfig, given: DataConfig | None) -> DataConfig:
    """A bundle's log, with what is given otherwise than by default in place of its settings."""
    if given is None:
        return trained
    changes: dict[str, Any] = {key: value for key, value in asdict(given).items() if value != getattr(DataConfig, key)}
    if changes.keys() & PLACES:
        changes = {key: getattr(given, key) for key in PLACES} | changes
    return replace(trained, **changes)


def history_of(
    recommender: Recommender,
    history: list[str] | str | None,
    user: str | None,
    data: DataConfig | None,
    at: str | None,
) -> list[Event]:
    """The events asked for: given ids, or a user's in the log before `at`."""
    if (history is None) == (user is None):
        raise ConfigError("give either --history ID ... or --user ID")
    if history is not None:
        return list(several(history))
    log = load_log(log_config(recommender.config.data, data))
    row = log.user_ids.index(str(user)).as_py()
    if row < 0:
        raise ConfigError(f"user {user!r} has no events in {log.facts.source}; ids there look like {log.user_ids[0]}")
    mine = log.interactions.take(log.interactions.user == row)
    if at is not None:
        mine = mine.take(mine.time < seconds_of(at))
    return [(str(log.catalog.ids[item]), int(time)) for item, time in zip(mine.item, mine.time, strict=True)]


def print_history(recommender: Recommender, events: list[Event]) -> None:
    last = [event if isinstance(event, str) else event[0] for event in events[-SHOWN_EVENTS:]]
    labels = [recommender.catalog.label(row) for row in recommender.catalog.rows(last)]
    print(f"after {len(events):,} events, the last: {'; '.join(labels) or 'none'}")
