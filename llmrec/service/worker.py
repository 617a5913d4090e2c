"""The worker that owns the recommender and runs its calls in one thread, a batch at a time.

Before each batch it reads what any process has stored since, so that processes that share a store give equal answers,
and encodes the new texts of all requests in one pass. Requests for recommendations with equal options are ranked
together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from llmrec.errors import BundleError, DataError, LlmrecError
from llmrec.inference.live.replica import Replica
from llmrec.inference.live.store.event_store import EventStore
from llmrec.inference.live.store.item_store import ItemChange, ItemStore
from llmrec.inference.live.store.schema import StoreError
from llmrec.inference.live.store.stored_events import LONGEST_ID
from llmrec.inference.live.users import LiveUsers
from llmrec.inference.queries import render_item_text
from llmrec.inference.ranked_items import Recommendation
from llmrec.recommender import Recommender
from llmrec.service.problem_details import ConflictError, NotFoundError
from llmrec.service.prometheus import ServiceMetrics
from llmrec.service.replica_state import ReplicatedUsers, is_in_training_log, make_replicated_users
from llmrec.service.settings import ServiceSettings
from llmrec.service.worker_jobs import Job, New, Question, RecommendJob

logger = logging.getLogger(__name__)


class Worker:
    """Worker that owns a recommender and answers batches of requests.

    Attributes:
        recommender: Recommender that only this worker uses.
        settings: Settings of the service.
        store: Event store of the live users.
        metrics: Metrics to update.
        stored_items: Changes of the catalog in the store.
        stale: Reason that the store cannot be read; empty while it can.
        replica: State of the live users, which follows the store.
    """

    def __init__(
        self, recommender: Recommender, settings: ServiceSettings, store: EventStore, metrics: ServiceMetrics
    ) -> None:
        """Read the store and build the state of the live users.

        Args:
            recommender: Recommender to serve.
            settings: Settings of the service.
            store: Event store of the live users.
            metrics: Metrics to update.

        Raises:
            StoreError: If the store cannot be read.
            StateError: If the state of the live users cannot be built.
        """
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.recommender, self.settings, self.store, self.metrics = recommender, settings, store, metrics
        self.stored_items, self._items_seen = ItemStore(store, recommender.catalog.items.id_column), 0
        self.stale = ""  # reason while the store cannot be read
        self._follow_items()
        self.replica = Replica(store, self._start_users, self._load, folder=settings.snapshots)
        self._saved = self.replica.number
        self._apply_state()

    @property
    def live(self) -> LiveUsers:
        """Live users of the current state."""
        return self.replica.state.live

    def process_batch(self, questions: list[Question]) -> list[Any]:
        """Answer a batch of requests.

        Args:
            questions: Requests.

        Returns:
            An answer or an exception for each request, in order.
        """
        self.metrics.batch.observe(len(questions))
        self.sync_with_store()
        self._read_ahead(questions)
        answers: dict[int, Any] = {}
        ranked = [(place, one) for place, one in enumerate(questions) if isinstance(one, RecommendJob)]
        for _, group in groupby(
            sorted(ranked, key=lambda pair: repr(pair[1].batch_key)), key=lambda pair: pair[1].batch_key
        ):
            places, jobs = zip(*group, strict=True)
            answers |= zip(places, self._recommend(jobs), strict=True)
        answers |= {place: _call_or_error(one.call) for place, one in enumerate(questions) if isinstance(one, Job)}
        return [answers[place] for place in range(len(questions))]

    def sync_with_store(self) -> None:
        """Read what has been stored since; while the store cannot be read, continue with the current state."""
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
        """Save a snapshot of the state, if the settings name a folder."""
        self.replica.save_snapshot()
        self._saved = self.replica.number

    def preload_backbone(self) -> None:
        """Load the backbone before the first request with new text, and log a failure."""
        try:
            self._read(["warm"])
        except BundleError as error:
            logger.warning("new text cannot be read: %s", error)

    def add_items(self, items: Sequence[New]) -> None:
        """Store new items and add them to the catalog, all or none.

        Args:
            items: Fields of each item, its id among them.

        Raises:
            DataError: If an id is missing, invalid or repeated, or a text is empty.
            ConflictError: If an id is in the catalog already.
            BundleError: If the bundle knows items by their ids alone.
            StoreError: If the store cannot be written.
        """
        catalog = self.recommender.catalog.items
        for item in items:
            own = item.get(catalog.id_column)
            if not isinstance(own, str) or not 0 < len(own) <= LONGEST_ID or "\0" in own:
                said = f"{catalog.id_column} is the id of an item: give 1 to {LONGEST_ID} characters of text"
                raise DataError("new items", [said])
            if _has(self.recommender, own):
                raise ConflictError(f"{own!r} is in the catalog already; give another id")
        items = self.recommender.catalog.text_space.redact_items(items)
        extended = catalog.extend(items)
        # Encode the texts first: a failure comes before anything is stored.
        self._read([str(text) for text in extended.text_array[len(catalog) :].to_pylist()])
        self.stored_items.add(items)
        self._follow_items()
        self._apply_state()

    def mark(self, kind: str, item: str) -> None:
        """Remove or restore an item.

        Args:
            kind: "removed" or "restored".
            item: Id of the item.

        Raises:
            NotFoundError: If the item is unknown.
            StoreError: If the store cannot be written.
        """
        if not _has(self.recommender, item):
            raise NotFoundError(f"no item {item!r} in the catalog")
        self.stored_items.mark("removed" if kind == "removed" else "restored", [item])
        self._follow_items()
        self._apply_state()

    def delete_user(self, user: str) -> int:
        """Delete a user from the store, the snapshots and the state.

        Args:
            user: The user's id.

        Returns:
            Number of events that the store had of the user.

        Raises:
            NotFoundError: If the user is unknown.
            StoreError: If the store cannot be written.
        """
        user = self.live.names.pseudonym(user)
        if user not in self.live.users and not self.store.read_user_events(user):
            raise NotFoundError(f"unknown user {user!r}")
        count = self.replica.delete_user(user, of_log=is_in_training_log(self.recommender, user))
        self._apply_state()
        return count

    def _recommend(self, jobs: Sequence[RecommendJob]) -> list[list[Recommendation] | Exception]:
        first, most = jobs[0], max(one.k for one in jobs)
        try:
            histories = [one.history for one in jobs]
            found = self.recommender.batch.recommend(
                histories,
                k=most,
                at=first.at,
                include_seen=first.include_seen,
                query=first.query,
                filters=first.filters,
                topic=first.topic,
            )
            return [best[: one.k] for best, one in zip(found, jobs, strict=True)]
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            return [answer for one in jobs for answer in self._recommend([one])]  # only some requests are at fault

    def _read_ahead(self, questions: Sequence[Question]) -> None:
        texts = list[str]()
        for item in (item for question in questions for item in question.new):
            try:
                texts.append(render_item_text(self.recommender.catalog.items, item))
            except LlmrecError:
                continue  # its own request reports the error
        if texts:
            try:
                self._read(texts)
            except LlmrecError:
                return  # the requests report the error

    def _read(self, texts: list[str]) -> None:
        catalog = self.recommender.catalog
        self.metrics.texts.observe(len(texts))
        catalog.text_space.encode(texts)
        if catalog.drift is not None and catalog.drift.text is not None:
            catalog.text_space.encode_untrained(texts)

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
            if len(changes) == 1:  # such as a bundle that was saved again with the item
                logger.warning("item %r, %s, is passed over: %s", changes[0].item, kind, error)
                return
            for change in changes:
                self._apply_changes(kind, [change])


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
