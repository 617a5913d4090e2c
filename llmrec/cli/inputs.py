"""The recommender, the history and the item that a command is given."""

from __future__ import annotations

from pathlib import Path

import yaml

from llmrec.config.data import DataConfig
from llmrec.errors import ConfigError
from llmrec.inference.queries import VERBATIM, Event, Item, parse_time
from llmrec.recommender import Recommender


def as_list(given: list[str] | str | None) -> list[str]:
    """One or many. Ids such as 0205616461 are left as they were written: the command line's YAML takes a list with
    numbers for no list of text, and passes it on whole.
    """
    if not isinstance(given, str):
        return given or []
    if not given.startswith("["):
        return [given]
    try:  # BaseLoader makes lists, dicts and text, and nothing else
        listed = yaml.load(given, Loader=yaml.BaseLoader)  # nosec B506
    except yaml.YAMLError:
        return [given]
    return listed if isinstance(listed, list) and all(isinstance(one, str) for one in listed) else [given]


def load_recommender(bundle: Path, backbone: str | None) -> Recommender:
    return Recommender.from_pretrained(bundle, backbone=backbone)


def resolve_history(
    recommender: Recommender,
    history: list[str] | str | None,
    user: str | None,
    data: DataConfig | None,
    at: str | None,
    domain: Path | None = None,
) -> list[Event]:
    """The events asked for: given ids, or a user's in the log before `at`. domain: the bundle whose items or log these
    are, where it is another than the recommender's; its items are then told by their text.
    """
    if domain is not None:
        other = load_recommender(domain, None)
        return other.catalog.to_text_history(resolve_history(other, history, user, data, at))
    require_history_or_user(history, user)
    if user is None:
        return list(as_list(history))
    log = recommender.training_log(data)
    mine = log.interactions.take(log.interactions.user == log.find_user_row(user))
    if at is not None:
        mine = mine.take(mine.time < parse_time(at))
    return [(str(log.catalog.ids[item]), int(time)) for item, time in zip(mine.item, mine.time, strict=True)]


def require_history_or_user(history: object, user: object) -> None:
    """Raises ConfigError unless one of the two is there to be asked about."""
    if (history is None) == (user is None):
        raise ConfigError("give either --history ID ... or --user ID")


def parse_item(item: list[str] | str | None, text: list[str] | str | None) -> Item:
    """The item asked about: of the catalog, or by its text."""
    given: list[Item] = [*as_list(item), *({VERBATIM: words} for words in as_list(text))]
    if len(given) != 1:
        raise ConfigError("give one item: --item ID, or --text '...' for an item that is in no catalog")
    return given[0]
