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
from llmrec.hub.training_log import load_bundle_log
from llmrec.inference.item_similarity import SimilaritySpace, item_similarities
from llmrec.inference.live.users import LiveUsers, start_live_users
from llmrec.inference.log_users import AudienceMember, LogUsers, rank_audience
from llmrec.inference.queries import Event, History, Item, QueryBatch, Time, find_item_rows, parse_histories, parse_time
from llmrec.inference.ranked_items import Recommendation, check_k, top_recommendations
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.inference.text_queries import (
    HALF_LIFE_EVENTS,
    SHARE,
    TEMPLATE,
    TopicShare,
    average_interest,
    score_topics,
    sort_topics,
    topic_mask,
)
from llmrec.inference.user_similarity import SimilarUser, rank_similar_users
from llmrec.utils.arrays import Mask


class Answers:
    """The questions that need no ranking of what comes next."""

    def __init__(self, bundle: Bundle, folder: Path, backbone: str | None) -> None:
        self._bundle = bundle
        self._items = ServedCatalog(bundle, folder, backbone)
        self._live: LiveUsers | None = None

    @property
    def catalog(self) -> ItemCatalog:
        """The items, added and removed ones included."""
        return self._items.catalog

    @property
    def has_drift_head(self) -> bool:
        """Whether scores are log chances by a drift head."""
        return self._items.drift is not None

    @cached_property
    def log(self) -> Log:
        """The log that the bundle was trained on, read again from where it was.

        Raises:
            DataError: it cannot be read; or it is a place of this machine, named by a bundle that came from elsewhere.
        """
        data = self._bundle.config.data
        paths = [path for path in (data.source, data.interactions, data.items) if path is not None]
        if is_download(self._items.folder) and not all(path.startswith((MOVIELENS, HUB)) for path in paths):
            told = f"{', '.join(paths)}: the log of a bundle that came from the hub; give it yourself, if you have it"
            raise DataError("log", [told])
        return load_bundle_log(self._bundle, data)

    @property
    def live(self) -> LiveUsers:
        """The live users, and what everybody does; begun when first needed, see `Recommender`."""
        with self._items.lock:
            if self._live is None:
                self._live = start_live_users(self._items, lambda: self.log)
            return self._live

    @live.setter
    def live(self, live: LiveUsers) -> None:
        with self._items.lock:
            self._live = live

    @property
    def vectors(self) -> ServedCatalog:
        """The items as vectors, with what reads new text."""
        return self._items

    def label(self, item: Item) -> str:
        """What to call an item before people: its title, or the start of its text."""
        return self._items.label(item)

    def to_text_history(self, history: Sequence[Event]) -> list[Event]:
        """The history with each item as its text: what a recommender of another domain can be asked about."""
        return self._items.to_text_history(history)

    def similar_items(
        self,
        item: Item,
        k: int = 10,
        of: SimilaritySpace = "text",
        other: Answers | None = None,
        at: Time | None = None,
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
        of: SimilaritySpace = "text",
        other: Answers | None = None,
        at: Time | None = None,
    ) -> list[list[Recommendation]]:
        """`similar_items` for several items."""
        check_k(k)
        there = self if other is None else other
        ruled_out = there._exclusion_bias(at)
        found = list[list[Recommendation]]()
        for item in items:
            alike = item_similarities(of, item, self._items, there._items).cpu() + ruled_out
            if there is self and isinstance(item, str):
                alike[find_item_rows(self.catalog, [item])] = -torch.inf
            found.append(top_recommendations(there.catalog, alike, k))
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
        users = self._get_users(log, at)
        states = torch.cat(list(users.iterate_states(self._items.scorer)))
        return [rank_similar_users(self._items, users, who, k, at, states) for who in whom]

    def item_topics(
        self, items: Sequence[Item], labels: Sequence[str], template: str = TEMPLATE
    ) -> list[list[TopicShare]]:
        """For each item, how much of its text speaks of each label (shares, largest first), by names alone.

        template: what the backbone reads in a label's place, such as "a {label} film".

        Raises:
            ConfigError: fewer than two labels, or a template without `{label}`. DataError: an unknown id.
            BundleError: a bundle on ids alone.
        """
        shares = score_topics(self._items, self._items.text_vectors(items), labels, template)  # (C, L)
        return [sort_topics(labels, of_item) for of_item in shares]

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
        texts = self._items.history_text_vectors(self._parse_histories([history], at))
        return sort_topics(
            labels, average_interest(score_topics(self._items, texts, labels, template), half_life_events)
        )

    def items_about(self, topic: str, share: float = SHARE) -> Mask:
        """(N,) the `share` of the catalog whose text is nearest to a topic in words; a mask for `recommend`'s where.

        Raises:
            ConfigError: an empty topic, or a share out of range. BundleError: a bundle on ids alone.
        """
        return topic_mask(self._items, topic, share)

    def audience(self, item: Item, k: int = 10, at: Time | None = None, log: Log | None = None) -> list[AudienceMember]:
        """The k users of a log to show an item to (a new one is given by its fields): those whose next event it is
        likeliest to be, among all that the catalog has for them. Who has it already is left out.

        log, at: as in `similar_users`.

        Raises:
            DataError: an unknown id, or a log with other items. ConfigError: nobody has events before `at`.
        """
        check_k(k)
        return rank_audience(self._items, self._get_users(log, at), item, k)

    def _parse_histories(self, histories: Sequence[History], at: Time | None) -> QueryBatch:
        return parse_histories(self.catalog, histories, at, lambda user, moment: self.live.get_events(user, moment))

    def _exclusion_bias(self, at: Time | None) -> Tensor:
        """(N,) -inf for items that were removed, or that come out after `at`; else 0."""
        bias = torch.zeros(len(self.catalog))
        bias[torch.from_numpy(~self._items.recommendable_mask())] = -torch.inf
        if at is not None and self.catalog.release_time is not None:
            bias[torch.from_numpy(self.catalog.release_time > parse_time(at))] = -torch.inf
        return bias

    def _get_users(self, log: Log | None, at: Time | None) -> LogUsers:
        return LogUsers.from_log(self.log if log is None else log, self.catalog, None if at is None else parse_time(at))
