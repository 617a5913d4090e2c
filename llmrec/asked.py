"""What the command line's verbs share: the recommender that was asked, and the history that it is asked about."""

from __future__ import annotations

from pathlib import Path

import yaml

from llmrec.config import DataConfig
from llmrec.data.sources import load_log
from llmrec.errors import ConfigError
from llmrec.recommender import Event, Recommender

SHOWN_EVENTS = 5


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


def history_of(
    recommender: Recommender, history: list[str] | str | None, user: str | None, data: DataConfig | None
) -> list[Event]:
    """The events asked for: given ids, or all of a user's in the log."""
    if (history is None) == (user is None):
        raise ConfigError("give either --history '[id, ...]' or --user ID")
    if history is not None:
        return list(several(history))
    log = load_log(data or recommender.config.data)
    row = log.user_ids.index(str(user)).as_py()
    if row < 0:
        raise ConfigError(f"user {user!r} has no events in {log.facts.source}; ids there look like {log.user_ids[0]}")
    mine = log.interactions.take(log.interactions.user == row)
    return [(str(log.catalog.ids[item]), int(time)) for item, time in zip(mine.item, mine.time, strict=True)]


def print_history(recommender: Recommender, events: list[Event]) -> None:
    last = [event if isinstance(event, str) else event[0] for event in events[-SHOWN_EVENTS:]]
    labels = [recommender.catalog.label(row) for row in recommender.catalog.rows(last)]
    print(f"after {len(events):,} events, the last: {'; '.join(labels) or 'none'}")
