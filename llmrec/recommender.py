"""Recommender: a trained bundle in use. Histories and items in, scores and recommendations out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from llmrec.config import FinetuneConfig
from llmrec.data.catalog import ItemCatalog
from llmrec.data.interactions import Mask
from llmrec.data.log import Log
from llmrec.data.sources import load_log
from llmrec.hub.bundle import Bundle, load_bundle, save_bundle
from llmrec.hub.share import Token, bundle_folder, push
from llmrec.models.backbone import Backbone
from llmrec.models.topk import top_k
from llmrec.retrieval.events import Event, Item, Time, read_histories, rows_of, seconds_of
from llmrec.retrieval.friends import SimilarUser, friends
from llmrec.retrieval.item_vectors import ItemVectors
from llmrec.retrieval.ranked import Recommendation, Where, allowed, best, check_k, listed, seen_pairs
from llmrec.retrieval.similar import Space, similarities
from llmrec.retrieval.users import AudienceMember, Users, audience
from llmrec.retrieval.words import (
    HALF_LIFE_EVENTS,
    SHARE,
    TEMPLATE,
    TopicShare,
    evidence,
    interest,
    items_about,
    ordered,
    topic_shares,
)


class Recommender:
    """Recommends from, and scores against, a catalog that can grow.

    A history is a sequence of events, oldest first: item ids, fields of items that the catalog lacks (such as another
    domain's, which are then read by their text), or (item, time) pairs of either. A time is seconds since the epoch, a
    datetime or an ISO string, UTC where it does not say. Scores are the model's logits: they order items for one
    history, and their differences are log-odds. `at` is the query time: events at or after it are left out.
    Without it the moment of the last event is asked about.
    """

    def __init__(
        self, bundle: Bundle, folder: Path, backbone: str | None = None, device: str | torch.device | None = None
    ) -> None:
        if device is not None:
            bundle.model.to(device)
        self._bundle = bundle
        self._items = ItemVectors(bundle, folder, backbone)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        backbone: str | None = None,
        device: str | torch.device | None = None,
        revision: str | None = None,
        token: Token = None,
    ) -> Recommender:
        """Load and verify a bundle: a folder, or a repository of the Hugging Face hub, OWNER/NAME.

        backbone: a local copy of the base model, for new text where no hub is at hand. device: the CPU unless given.
        revision: a branch, a tag or a commit on the hub. token: for private repositories, else that of `hf auth login`.

        Raises:
            BundleError: what is no bundle, was altered, does not reproduce its own scores, or cannot be fetched.
        """
        folder = bundle_folder(name, revision, token)
        return cls(load_bundle(folder, backbone), folder, backbone, device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the bundle with the catalog as it is now, added items included."""
        save_bundle(Path(folder), replace(self._bundle, catalog=self.catalog))

    def push_to_hub(
        self,
        repo_id: str,
        private: bool | None = None,
        revision: str | None = None,
        token: Token = None,
        base: str | None = None,
    ) -> str:
        """Put the bundle on the hub, with the catalog as it is now, in one commit; returns that commit's address.

        repo_id: OWNER/NAME, made if it is not there, then `private` or not. revision: a branch, made likewise; main
        unless given. base: the public name of the base model where it was trained from a folder. No path of this
        machine goes along.

        Raises:
            BundleError: what the hub has against it, with a remedy; nothing is published then.
        """
        return push(replace(self._bundle, catalog=self.catalog), repo_id, private, revision, token, base)

    @property
    def config(self) -> FinetuneConfig:
        """What the bundle was made with."""
        return self._bundle.config

    @property
    def catalog(self) -> ItemCatalog:
        """The items, added ones included."""
        return self._items.catalog

    @property
    def backbone(self) -> Backbone:
        """The language model that reads new text; loaded when it is first needed."""
        return self._items.backbone

    @cached_property
    def log(self) -> Log:
        """The log that the bundle was trained on, read again from where it was."""
        return load_log(self.config.data)

    def recommend(
        self,
        history: Sequence[Event] = (),
        k: int = 10,
        at: Time | None = None,
        include_seen: bool = False,
        looking_for: str | None = None,
        where: Where | None = None,
        topic: str | None = None,
    ) -> list[Recommendation]:
        """The k items that score highest, those of the history left out unless `include_seen`.

        A user without any history is met with what the model expects of anybody: what is popular.

        looking_for: what the user says to want, in words, beside a history or in place of one: scores gain by how near
        an item's text is to it. where: which items there are to choose from, a mask (N,) or conditions on fields such
        as "category=Soap" or "genres~drama". topic: choose from the tenth of the catalog that is nearest to it in
        words; for another part give `items_about` as `where`. Where the catalog has release dates and `at` is given,
        items of a later date are left out.

        Raises:
            DataError: an unknown id or an unreadable time. ConfigError: k below 1, `where` that no item meets, or empty
            words.
            BundleError: text to read, and a recommender on ids alone.
        """
        return self.recommend_many([history], k, at, include_seen, looking_for, where, topic)[0]

    @torch.no_grad()
    def recommend_many(
        self,
        histories: Sequence[Sequence[Event]],
        k: int = 10,
        at: Time | None = None,
        include_seen: bool = False,
        looking_for: str | None = None,
        where: Where | None = None,
        topic: str | None = None,
    ) -> list[list[Recommendation]]:
        """`recommend` for several histories in one pass."""
        check_k(k)
        asked, items = read_histories(self.catalog, histories, at), self._items
        states = items.scorer.states(asked.queries, items.cold(asked.texts))  # (B, D)
        bias = items.extra()  # (N,)
        if looking_for is not None:
            bias += evidence(items, looking_for).to(bias)
        if at is not None and self.catalog.release_time is not None:
            bias[torch.from_numpy(self.catalog.release_time > seconds_of(at))] = -torch.inf
        if where is not None:
            bias[torch.from_numpy(~allowed(self.catalog, where))] = -torch.inf
        if topic is not None:
            bias[torch.from_numpy(~self.items_about(topic))] = -torch.inf
        seen = None if include_seen else seen_pairs(asked.queries, len(self.catalog)).to(states.device)
        found = top_k(items.table, states, k, seen, bias)
        return [listed(self.catalog, score, rows) for score, rows in zip(*found, strict=True)]

    @torch.no_grad()
    def score(self, history: Sequence[Event], items: Sequence[Item], at: Time | None = None) -> list[float]:
        """A score for each item: a catalog id, or the fields of an item that is in no catalog.

        `{"title": ...}` goes through the bundle's template; `{"text": ...}` is read as it is.

        Raises:
            DataError: an unknown id. BundleError: new text, and a recommender on ids alone.
        """
        asked = read_histories(self.catalog, [history], at)
        state = self._items.scorer.states(asked.queries, self._items.cold(asked.texts))  # (1, D)
        scores: list[float] = self._bundle.model.scores(state, *self._items.scoring(items))[0].tolist()
        return scores

    def add_items(self, items: Sequence[Mapping[str, object]]) -> None:
        """Put new items (fields with their id) into the catalog: they can be recommended at once, by their text.

        Raises:
            DataError: an id that is missing, given twice or taken; nothing is added then.
        """
        if items:
            self._items.extend(items)

    def label(self, item: Item) -> str:
        """What to call an item before people: its title, or the start of its text."""
        return self._items.name(item)

    def described(self, history: Sequence[Event]) -> list[Event]:
        """The history with each item as its text: what a recommender of another domain can be asked about."""
        return self._items.described(history)

    @torch.no_grad()
    def similar_items(
        self, item: Item, k: int = 10, of: Space = "text", other: Recommender | None = None
    ) -> list[Recommendation]:
        """The k items most like an item, by the cosine of their texts or of how the model sees them.

        other: whose catalog to look in, by text; the texts are compared less the mean of their own catalog.

        Raises:
            ConfigError: bundles whose texts different backbones have read, or of="model" between two bundles.
            DataError: an unknown id. BundleError: text, and a bundle on ids alone.
        """
        check_k(k)
        there = self if other is None else other
        alike = similarities(of, item, self._items, there._items).cpu()
        if there is self and isinstance(item, str):
            alike[rows_of(self.catalog, [item])] = -torch.inf
        return best(there.catalog, alike, k)

    @torch.no_grad()
    def similar_users(
        self, who: str | Sequence[Event], k: int = 10, at: Time | None = None, log: Log | None = None
    ) -> list[SimilarUser]:
        """The k users of a log whose interest is most like that of a user of it (an id), or of a history's.

        log: the bundle's own unless given. Only events before `at` are known, of anyone.

        Raises:
            ConfigError: a user without events before `at`, or k below 1. DataError: an unreadable history, or a log
            with other items.
        """
        check_k(k)
        return friends(self._items, self._users(log, at), who, k, at)

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
        history: Sequence[Event],
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
        texts = self._items.texts_of(read_histories(self.catalog, [history], at))
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

    def _users(self, log: Log | None, at: Time | None) -> Users:
        return Users.of(self.log if log is None else log, self.catalog, None if at is None else seconds_of(at))
