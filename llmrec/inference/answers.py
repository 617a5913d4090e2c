"""What a bundle answers beside what comes next: who and what is alike, what it is about, and whom to show it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from llmrec.data.catalog import ItemCatalog
from llmrec.data.log import Log
from llmrec.data.readers.files import HUB
from llmrec.data.readers.movielens import MOVIELENS
from llmrec.errors import DataError
from llmrec.hub.bundle import Bundle
from llmrec.hub.layout import is_download
from llmrec.hub.training_log import log_of
from llmrec.inference.item_similarity import Space, similarities
from llmrec.inference.live.users import Live, begin
from llmrec.inference.log_users import AudienceMember, Users, audience
from llmrec.inference.queries import Asked, Event, History, Item, Time, read_histories, rows_of, seconds_of
from llmrec.inference.ranked_items import Recommendation, best, check_k
from llmrec.inference.served_catalog import ItemVectors
from llmrec.inference.text_queries import (
    HALF_LIFE_EVENTS,
    SHARE,
    TEMPLATE,
    TopicShare,
    interest,
    items_about,
    ordered,
    topic_shares,
)
from llmrec.inference.user_similarity import SimilarUser, friends
from llmrec.utils.arrays import Mask


class Answers:
    """The questions that need no ranking of what comes next."""

    def __init__(self, bundle: Bundle, folder: Path, backbone: str | None) -> None:
        self._bundle = bundle
        self._items = ItemVectors(bundle, folder, backbone)
        self._live: Live | None = None

    @property
    def catalog(self) -> ItemCatalog:
        """The items, added and removed ones included."""
        return self._items.catalog

    @property
    def drifts(self) -> bool:
        """Whether scores are log chances by a drift head."""
        return self._items.drift is not None

    @cached_property
    def log(self) -> Log:
        """The log that the bundle was trained on, read again from where it was.

        Raises:
            DataError: it cannot be read; or it is a place of this machine, named by a bundle that came from elsewhere.
        """
        data = self._bundle.config.data
        places = [place for place in (data.source, data.interactions, data.items) if place is not None]
        if is_download(self._items.folder) and not all(place.startswith((MOVIELENS, HUB)) for place in places):
            told = f"{', '.join(places)}: the log of a bundle that came from the hub; give it yourself, if you have it"
            raise DataError("log", [told])
        return log_of(self._bundle, data)

    @property
    def live(self) -> Live:
        """The live users, and what everybody does; begun when first needed, see `Recommender`."""
        with self._items.lock:
            if self._live is None:
                self._live = begin(self._items, lambda: self.log)
            return self._live

    @live.setter
    def live(self, live: Live) -> None:
        with self._items.lock:
            self._live = live

    @property
    def vectors(self) -> ItemVectors:
        """The items as vectors, with what reads new text."""
        return self._items

    def label(self, item: Item) -> str:
        """What to call an item before people: its title, or the start of its text."""
        return self._items.name(item)

    def described(self, history: Sequence[Event]) -> list[Event]:
        """The history with each item as its text: what a recommender of another domain can be asked about."""
        return self._items.described(history)

    def similar_items(
        self, item: Item, k: int = 10, of: Space = "text", other: Answers | None = None, at: Time | None = None
    ) -> list[Recommendation]:
        """The k items most like an item, by the cosine of their texts or of how the model sees them.

        other: whose catalog to look in, by text; the texts are compared less the mean of their own catalog. Items that
        were removed, or that come out after `at`, are left out.

        Raises:
            ConfigError: bundles whose texts different backbones have read, or of="model" between two bundles.
            DataError: an unknown id. BundleError: text, and a bundle on ids alone.
        """
        return self.similar_items_many([item], k, of, other, at)[0]

    @torch.no_grad()
    def similar_items_many(
        self,
        items: Sequence[Item],
        k: int = 10,
        of: Space = "text",
        other: Answers | None = None,
        at: Time | None = None,
    ) -> list[list[Recommendation]]:
        """`similar_items` for several items."""
        check_k(k)
        there = self if other is None else other
        ruled_out = there._ruled_out(at)
        found = list[list[Recommendation]]()
        for item in items:
            alike = similarities(of, item, self._items, there._items).cpu() + ruled_out
            if there is self and isinstance(item, str):
                alike[rows_of(self.catalog, [item])] = -torch.inf
            found.append(best(there.catalog, alike, k))
        return found

    def similar_users(
        self, who: History, k: int = 10, at: Time | None = None, log: Log | None = None
    ) -> list[SimilarUser]:
        """The k users of a log whose interest is most like that of a user of it (an id), or of a history's.

        log: the bundle's own unless given. Only events before `at` are known, of anyone.

        Raises:
            ConfigError: a user without events before `at`, or k below 1. DataError: an unreadable history, or a log
            with other items.
        """
        return self.similar_users_many([who], k, at, log)[0]

    @torch.no_grad()
    def similar_users_many(
        self, whom: Sequence[History], k: int = 10, at: Time | None = None, log: Log | None = None
    ) -> list[list[SimilarUser]]:
        """`similar_users` for several users or histories, in one pass over the log."""
        check_k(k)
        users = self._users(log, at)
        states = torch.cat(list(users.states(self._items.scorer)))
        return [friends(self._items, users, who, k, at, states) for who in whom]

    def item_topics(
        self, items: Sequence[Item], labels: Sequence[str], template: str = TEMPLATE
    ) -> list[list[TopicShare]]:
        """For each item, how much of its text speaks of each label (shares, largest first), by names alone.

        template: what the backbone reads in a label's place, such as "a {label} film".

        Raises:
            ConfigError: fewer than two labels, or a template without `{label}`. DataError: an unknown id.
            BundleError: a bundle on ids alone.
        """
        shares = topic_shares(self._items, self._items.texts(items), labels, template)  # (C, L)
        return [ordered(labels, of_item) for of_item in shares]

    def topics(
        self,
        history: History,
        labels: Sequence[str],
        at: Time | None = None,
        template: str = TEMPLATE,
        half_life_events: float = HALF_LIFE_EVENTS,
    ) -> list[TopicShare]:
        """How a history's interest divides among labels, largest first: the mean of its items' shares, in which an
        event counts half as much as one that is `half_life_events` later.

        Raises:
            ConfigError: no events before `at`, and as `item_topics` does.
        """
        texts = self._items.texts_of(self._read([history], at))
        return ordered(labels, interest(topic_shares(self._items, texts, labels, template), half_life_events))

    def items_about(self, topic: str, share: float = SHARE) -> Mask:
        """(N,) the `share` of the catalog whose text is nearest to a topic in words; a mask for `recommend`'s where.

        Raises:
            ConfigError: an empty topic, or a share out of range. BundleError: a bundle on ids alone.
        """
        return items_about(self._items, topic, share)

    def audience(self, item: Item, k: int = 10, at: Time | None = None, log: Log | None = None) -> list[AudienceMember]:
        """The k users of a log to show an item to (a new one is given by its fields): those whose next event it is
        likeliest to be, among all that the catalog has for them. Who has it already is left out.

        log, at: as in `similar_users`.

        Raises:
            DataError: an unknown id, or a log with other items. ConfigError: nobody has events before `at`.
        """
        check_k(k)
        return audience(self._items, self._users(log, at), item, k)

    def _read(self, histories: Sequence[History], at: Time | None) -> Asked:
        return read_histories(self.catalog, histories, at, lambda user, moment: self.live.events(user, moment))

    def _ruled_out(self, at: Time | None) -> Tensor:
        """(N,) -inf for items that were removed, or that come out after `at`; else 0."""
        bias = torch.zeros(len(self.catalog))
        bias[torch.from_numpy(~self._items.places())] = -torch.inf
        if at is not None and self.catalog.release_time is not None:
            bias[torch.from_numpy(self.catalog.release_time > seconds_of(at))] = -torch.inf
        return bias

    def _users(self, log: Log | None, at: Time | None) -> Users:
        return Users.of(self.log if log is None else log, self.catalog, None if at is None else seconds_of(at))
