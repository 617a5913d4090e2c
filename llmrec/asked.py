"""What the command line's verbs share: the recommender that was asked, and the history that it is asked about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml

from llmrec.config.data import DataConfig
from llmrec.config.split import SplitName
from llmrec.data.log import Log
from llmrec.data.splits import make_split
from llmrec.data.timestamps import iso
from llmrec.drift.user_profile import UserDrift, user_drift
from llmrec.errors import ConfigError
from llmrec.hub.bundle import Bundle, load_bundle
from llmrec.hub.remote import bundle_folder
from llmrec.hub.training_log import log_of as bundle_log
from llmrec.inference.explanations.explanation import Explanation, Term
from llmrec.inference.queries import VERBATIM, Event, Item, item_of, seconds_of
from llmrec.inference.ranked_items import Recommendation
from llmrec.recommender import Recommender

SHOWN_EVENTS, SHOWN_WORDS = 5, 8
TERMS: dict[Term, str] = {
    "anyone": "what anybody would be offered",
    "base": "what the model makes of the history",
    "environment": "what is popular now",
    "transitions": "where people went on to from there",
    "chain": "latent interests",
}
PLACES = {"source", "interactions", "items"}  # another place is another place as a whole


def several(given: list[str] | str | None) -> list[str]:
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


def load(bundle: Path, backbone: str | None) -> Recommender:
    return Recommender.from_pretrained(bundle, backbone)


def log_config(trained: DataConfig, given: DataConfig | None) -> DataConfig:
    """A bundle's log, with what is given otherwise than by default in place of its settings."""
    if given is None:
        return trained
    settings = {field.name: getattr(given, field.name) for field in fields(given)}
    changes: dict[str, Any] = {key: value for key, value in settings.items() if value != getattr(DataConfig, key)}
    if changes.keys() & PLACES:
        changes = {key: getattr(given, key) for key in PLACES} | changes
    return replace(trained, **changes)


def history_of(
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
        other = load(domain, None)
        return other.described(history_of(other, history, user, data, at))
    check_one_given(history, user)
    if user is None:
        return list(several(history))
    log = log_of(recommender, data)
    mine = log.interactions.take(log.interactions.user == log.user_row(user))
    if at is not None:
        mine = mine.take(mine.time < seconds_of(at))
    return [(str(log.catalog.ids[item]), int(time)) for item, time in zip(mine.item, mine.time, strict=True)]


def check_one_given(history: object, user: object) -> None:
    """Raises ConfigError unless one of the two is there to be asked about."""
    if (history is None) == (user is None):
        raise ConfigError("give either --history ID ... or --user ID")


def log_of(recommender: Recommender, data: DataConfig | None) -> Log:
    return bundle_log(recommender.vectors.bundle, log_config(recommender.config.data, data))


def bundle_and_log(bundle: Path, data: DataConfig | None, backbone: str | None = None) -> tuple[Bundle, Log]:
    """A bundle and a log of its items to evaluate it on: its own, with what `data` gives in place of its settings.

    Raises:
        ConfigError: a log of other items.
    """
    loaded = load_bundle(bundle_folder(bundle), backbone)
    log = bundle_log(loaded, log_config(loaded.config.data, data))
    if not log.catalog.ids.equals(loaded.catalog.ids):
        raise ConfigError(f"{log.facts.source}: its items are not those of the bundle, in order; give the bundle's log")
    return loaded, log


def seen_in_training(bundle: Bundle, log: Log, split: SplitName) -> str | None:
    """What to say where the test part of a split may be what a bundle was trained on."""
    if split == bundle.config.split.names[0] and log.facts.fingerprint == bundle.facts["fingerprint"]:
        return None
    return "another log or split than this recommender was trained on: training may have seen the test part"


def one_item(item: list[str] | str | None, text: list[str] | str | None) -> Item:
    """The item asked about: of the catalog, or by its text."""
    given: list[Item] = [*several(item), *({VERBATIM: words} for words in several(text))]
    if len(given) != 1:
        raise ConfigError("give one item: --item ID, or --text '...' for an item that is in no catalog")
    return given[0]


def print_history(recommender: Recommender, events: list[Event], looking_for: str | None = None) -> None:
    labels = [recommender.label(item_of(event)) for event in events[-SHOWN_EVENTS:]]
    print(f"after {len(events):,} events, the last: {'; '.join(labels) or 'none'}")
    if looking_for is not None:
        print(f"looking for: {looking_for}")


def print_json(found: Sequence[Any]) -> None:
    """Dataclasses, as one JSON list."""
    print(json.dumps([asdict(one) for one in found], ensure_ascii=False))


def print_ranked(found: list[Recommendation]) -> None:
    for item in found:
        print(f"{item.rank:>3}  {item.score:8.3f}  {item.label}  [{item.item}]")


def explanation_lines(told: Explanation) -> list[str]:
    """An explanation for people: why, by term, by event and by word."""
    shares = sorted(told.shares().items(), key=lambda share: -share[1])
    lines = [f"{told.label}, score {told.score:.3f}", told.sentence, ""]
    lines += [f"{share:6.1%}  {TERMS[term]}" for term, share in shares]
    if told.events:
        lines += ["", "by what was done:"]
    for place in told.strongest()[:SHOWN_EVENTS]:
        event = told.events[place]
        lines.append(f"{event.share:6.1%}  {event.label}  [{event.item}]")
    if told.tokens:
        strongest = sorted(told.tokens, key=lambda token: -abs(token.value))[:SHOWN_WORDS]
        lines += ["", "words: " + ", ".join(f"{token.token} {token.value:+.2f}" for token in strongest)]
    return lines


def drift_of(bundle: Path, user: str, at: str | None, data: DataConfig | None) -> UserDrift:
    """A user's interest as of `at`, by the drift head of a bundle.

    Raises:
        ConfigError: no drift head, a log of other items, an unknown user, or one without events before `at`.
    """
    loaded = load_bundle(bundle_folder(bundle))
    if loaded.drift is None or loaded.config.drift is None:
        raise ConfigError(f"{bundle} holds no drift head; train it with drift: {{}} in the recipe, or --drift '{{}}'")
    log = bundle_log(loaded, log_config(loaded.config.data, data))
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
