"""The recommender of a service: everything that touches it happens in one thread, a batch of requests at a time.

Before each batch it takes in what any process has stored since, so that processes that share a store answer alike, and
reads the new texts of all its requests in one pass. Requests for recommendations that ask for the same are ranked
together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from llmrec.errors import BundleError, DataError, LlmrecError
from llmrec.inference.live.replica import Replica
from llmrec.inference.live.store.event_store import LONGEST_ID, EventStore
from llmrec.inference.live.store.item_store import ItemChange, ItemStore
from llmrec.inference.live.store.schema import StoreError
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.queries import VERBATIM, History, Time, render_item_text
from llmrec.inference.ranked_items import Recommendation
from llmrec.recommender import Recommender
from llmrec.service.problem_details import ConflictError, NotFoundError
from llmrec.service.prometheus import ServiceMetrics
from llmrec.service.replica_state import ReplicatedUsers, is_in_training_log, make_replicated_users
from llmrec.service.settings import ServiceSettings

logger = logging.getLogger(__name__)
New = Mapping[str, object]  # the fields of an item


@dataclass(frozen=True)
class RecommendJob:
    """`Recommender.recommend` of one history. same: what has to be alike for histories to be ranked together."""

    history: History
    k: int
    at: Time | None = None
    include_seen: bool = False
    query: str | None = None
    filters: tuple[str, ...] | None = None
    topic: str | None = None
    new: tuple[New, ...] = ()

    @property
    def batch_key(self) -> tuple[object, ...]:
        return self.at, self.include_seen, self.query, self.filters, self.topic


@dataclass(frozen=True)
class Job:
    """Anything else. new: items whose texts it will need."""

    call: Callable[[], Any]
    new: tuple[New, ...] = ()


Question = RecommendJob | Job


class Worker:
    """recommender: for this alone from now on. Raises StoreError and StateError as the store and its snapshots do."""

    def __init__(
        self, recommender: Recommender, settings: ServiceSettings, store: EventStore, metrics: ServiceMetrics
    ) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.recommender, self.settings, self.store, self.metrics = recommender, settings, store, metrics
        self.stored_items, self._items_seen = ItemStore(store, recommender.catalog.items.id_column), 0
        self.stale = ""  # why the store cannot be read, while it cannot
        self._follow_items()
        self.replica = Replica(store, self._start_users, self._load, settings.snapshots)
        self._saved = self.replica.number
        self._apply_state()

    @property
    def live(self) -> LiveUsers:
        return self.replica.state.live

    def process_batch(self, questions: list[Question]) -> list[Any]:
        """An answer or an exception for each."""
        self.metrics.batch.observe(len(questions))
        self.sync_with_store()
        self._read_ahead(questions)
        answers: dict[int, Any] = {}
        ranked = [(place, one) for place, one in enumerate(questions) if isinstance(one, RecommendJob)]
        for _, group in groupby(
            sorted(ranked, key=lambda pair: repr(pair[1].batch_key)), key=lambda pair: pair[1].batch_key
        ):
            places, alike = zip(*group, strict=True)
            answers |= zip(places, self._recommend(alike), strict=True)
        answers |= {place: _call_or_error(one.call) for place, one in enumerate(questions) if isinstance(one, Job)}
        return [answers[place] for place in range(len(questions))]

    def sync_with_store(self) -> None:
        """Take in what has been stored; where the store cannot be read, go on with what is known."""
        try:
            self._follow_items()
            self.replica.catch_up()
            self.stale = ""
        except StoreError as error:
            if not self.stale:
                logger.error("answers go on without what is stored from now on: %s", error)
            self.stale = str(error)
        self._apply_state()
        if self.replica.number - self._saved >= self.settings.snapshot_every:
            self.save_snapshot()

    def save_snapshot(self) -> None:
        self.replica.save_snapshot()
        self._saved = self.replica.number

    def preload_backbone(self) -> None:
        """Load what reads new text, so that the first request need not wait for it, nor find that it cannot be had."""
        try:
            self._read(["warm"])
        except BundleError as error:
            logger.warning("new text cannot be read: %s", error)

    def add_items(self, items: Sequence[New]) -> None:
        """Raises `DataError` and `ConflictError`; then nothing is added."""
        catalog = self.recommender.catalog.items
        for item in items:
            own = item.get(catalog.id_column)
            if not isinstance(own, str) or not 0 < len(own) <= LONGEST_ID or "\0" in own:
                said = f"{catalog.id_column} is the id of an item: give 1 to {LONGEST_ID} characters of text"
                raise DataError("new items", [said])
            if _has(self.recommender, own):
                raise ConflictError(f"{own!r} is in the catalog already; give another id")
        items = self.recommender.catalog.redact_items(items)
        extended = catalog.extend(items)
        self._read([str(text) for text in extended.text_array[len(catalog) :].to_pylist()])  # now, or never
        self.stored_items.add(items)
        self._follow_items()
        self._apply_state()

    def mark(self, kind: str, item: str) -> None:
        """Remove or restore an item."""
        if not _has(self.recommender, item):
            raise NotFoundError(f"no item {item!r} in the catalog")
        self.stored_items.mark("removed" if kind == "removed" else "restored", [item])
        self._follow_items()
        self._apply_state()

    def delete_user(self, user: str) -> int:
        """The number of events that were stored of the user.

        Raises:
            NotFoundError: nothing is known of the user.
        """
        user = self.live.names.pseudonym(user)
        if user not in self.live.users and not self.store.read_user_events(user):
            raise NotFoundError(f"unknown user {user!r}")
        count = self.replica.delete_user(user, of_log=is_in_training_log(self.recommender, user))
        self._apply_state()
        return count

    def _recommend(self, alike: Sequence[RecommendJob]) -> list[list[Recommendation] | Exception]:
        first, most = alike[0], max(one.k for one in alike)
        try:
            histories = [one.history for one in alike]
            found = self.recommender.recommend_many(
                histories,
                k=most,
                at=first.at,
                include_seen=first.include_seen,
                query=first.query,
                filters=first.filters,
                topic=first.topic,
            )
            return [best[: one.k] for best, one in zip(found, alike, strict=True)]
        except Exception as error:
            if len(alike) == 1:
                return [error]
            return [answer for one in alike for answer in self._recommend([one])]  # it is not everyone's fault

    def _read_ahead(self, questions: Sequence[Question]) -> None:
        texts = list[str]()
        for item in (item for question in questions for item in question.new):
            try:
                texts.append(render_item_text(self.recommender.catalog.items, item))
            except LlmrecError:
                continue  # its own request will be told
        if texts:
            try:
                self._read(texts)
            except LlmrecError:
                return  # likewise

    def _read(self, texts: list[str]) -> None:
        catalog = self.recommender.catalog
        self.metrics.texts.observe(len(texts))
        catalog.encode_texts(texts)
        if catalog.drift is not None and catalog.drift.text is not None:
            catalog.encode_texts_untrained(texts)

    def _start_users(self) -> ReplicatedUsers:
        return ReplicatedUsers(make_replicated_users(self.recommender, self.store), self._follow_items)

    def _load(self, path: Path) -> ReplicatedUsers:
        live = make_replicated_users(self.recommender, self.store)
        live.load(path)
        return ReplicatedUsers(live, self._follow_items)

    def _apply_state(self) -> None:
        self.recommender.live = self.live
        self.metrics.users.set(len(self.live.users))
        self.metrics.items.set(len(self.recommender.catalog) - len(self.recommender.catalog.removed))

    def _follow_items(self) -> None:
        changes = self.stored_items.read_changes(self._items_seen)
        for kind, group in groupby(changes, key=lambda change: change.kind):
            self._apply_changes(kind, list(group))
        if changes:
            self._items_seen = changes[-1].number

    def _apply_changes(self, kind: str, changes: Sequence[ItemChange]) -> None:
        try:
            if kind == "added":
                self.recommender.catalog.add([change.fields or {} for change in changes])
            elif kind == "removed":
                self.recommender.catalog.remove([change.item for change in changes])
            else:
                self.recommender.catalog.restore([change.item for change in changes])
        except DataError as error:
            if len(changes) == 1:  # as of a bundle that was saved with the item since
                logger.warning("item %r, %s, is passed over: %s", changes[0].item, kind, error)
                return
            for change in changes:
                self._apply_changes(kind, [change])


def as_raw_text(words: Iterable[str | None]) -> tuple[New, ...]:
    """Words that are read as they are."""
    return tuple({VERBATIM: each} for each in words if each and each.strip())


def _call_or_error(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


def _has(recommender: Recommender, item: str) -> bool:
    try:
        recommender.catalog.find_rows([item])
    except DataError:
        return False
    return True
