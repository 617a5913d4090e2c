"""The recommender, the history and the item that a command's arguments name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.config.data import DataConfig
    from llmrec.inference.queries import Event, Item
    from llmrec.recommender import Recommender


def load_recommender(bundle: str, backbone: str | None, *, revision: str | None = None) -> Recommender:
    """Load and verify a bundle.

    Args:
        bundle: Folder, or OWNER/NAME on the hub.
        backbone: Local copy of the base model.
        revision: Branch, tag or commit on the hub.

    Returns:
        The recommender.
    """
    from llmrec.recommender import Recommender

    return Recommender.from_pretrained(bundle, backbone=backbone, revision=revision)


def resolve_history(
    recommender: Recommender,
    history: list[str] | None,
    user: str | None,
    *,
    data: DataConfig | None = None,
    at: str | None = None,
    history_bundle: str | None = None,
    history_revision: str | None = None,
) -> list[Event]:
    """Return the events that are named: given items, or a user's events in the log before the query time.

    Args:
        recommender: The recommender that answers.
        history: Item ids, oldest first.
        user: User of the log, in place of a history.
        data: Settings of the log that replace the bundle's.
        at: Query time, ISO 8601.
        history_bundle: Bundle whose items or log these are, if not the recommender's; its items come as their texts.
        history_revision: Branch, tag or commit of it on the hub.

    Returns:
        Events, oldest first; none for a user without history.

    Raises:
        ConfigError: If both a history and a user are given.
    """
    from llmrec.inference.queries import parse_time, to_text_history

    refuse_history_and_user(history, user)
    if history_bundle is not None:
        other = load_recommender(history_bundle, None, revision=history_revision)
        return to_text_history(other.catalog.items, resolve_history(other, history, user, data=data, at=at))
    if user is None:
        return list(history or [])
    log = recommender.training_log.read(data)
    events = log.interactions.take(log.interactions.user == log.find_user_row(user))
    if at is not None:
        events = events.take(events.time < parse_time(at))
    return [(str(log.catalog.ids[item]), int(time)) for item, time in zip(events.item, events.time, strict=True)]


def refuse_history_and_user(history: list[str] | None, user: str | None) -> None:
    """Raise an error if both a history and a user are given.

    Args:
        history: Item ids of a history.
        user: Id of a user.

    Raises:
        ConfigError: If both are given.
    """
    if history and user is not None:
        raise ConfigError(f"--user {user}: give a user or the items of a history, not both")


def require_history_or_user(history: list[str] | None, user: str | None) -> None:
    """Raise an error unless either a history or a user is given.

    Args:
        history: Item ids of a history.
        user: Id of a user.

    Raises:
        ConfigError: If both or neither are given.
    """
    refuse_history_and_user(history, user)
    if not history and user is None:
        raise ConfigError("no history: give the item ids of one after BUNDLE, or --user ID")


def parse_item(item: list[str] | None, text: list[str] | None) -> Item:
    """Return the one item that is named: of the catalog, or by its text.

    Args:
        item: Values of `--item`.
        text: Values of `--text`.

    Returns:
        Its id, or its text as a field.

    Raises:
        ConfigError: If there is not exactly one.
    """
    from llmrec.inference.queries import VERBATIM

    given: list[Item] = [*(item or []), *({VERBATIM: words} for words in text or [])]
    if len(given) != 1:
        raise ConfigError("give one item: --item ID, or --text '...' for an item that is in no catalog")
    return given[0]


def find_bundle(bundle: str, revision: str | None) -> Path:
    """Return the folder of a bundle: itself, or the copy of a hub repository in the cache.

    Args:
        bundle: Folder, or OWNER/NAME on the hub.
        revision: Branch, tag or commit on the hub.

    Returns:
        The folder.
    """
    from llmrec.hub.remote import resolve_bundle

    return resolve_bundle(bundle, revision)
