"""The running parts of a service: the recommender's thread, the store's thread and the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from llmrec.errors import LlmrecError
from llmrec.inference.live.store.event_store import EventStore
from llmrec.inference.live.store.stored_events import NewEvent
from llmrec.recommender import Recommender
from llmrec.service.batching import Batcher
from llmrec.service.prometheus import ServiceMetrics
from llmrec.service.settings import ServiceSettings
from llmrec.service.worker import Worker
from llmrec.service.worker_jobs import Job, Question

T = TypeVar("T")


class ServiceRuntime:
    """Running service that all routes share.

    Attributes:
        settings: Settings of the service.
        store: Event store.
        metrics: Metrics for Prometheus.
        engine: Worker that owns the recommender.
        batcher: Answers questions with the recommender, in one thread.
        writer: Stores events in a thread of its own, so that commits, which wait for the disk, delay no answer.
    """

    def __init__(self, recommender: Recommender, settings: ServiceSettings, store: EventStore) -> None:
        """Build the parts and load the backbone; `start` runs them.

        Args:
            recommender: Recommender to serve.
            settings: Settings of the service.
            store: Event store of the live users.

        Raises:
            StoreError: If the store cannot be read.
            StateError: If the state of the live users cannot be built.
        """
        self.settings, self.store, self.metrics = settings, store, ServiceMetrics()
        self.engine = Worker(recommender, settings, store, self.metrics)
        self.engine.preload_backbone()
        limit, together = settings.limits.waiting, settings.most_together
        self.batcher: Batcher[Question, Any] = Batcher(
            self.engine.process_batch, settings.max_wait_ms, together, limit, name="recommender"
        )
        self.writer: Batcher[Sequence[NewEvent], int] = Batcher(self._store_all, 0, together, limit, name="store")

    async def submit(self, call: Callable[[], T], new: tuple[Mapping[str, Any], ...] = ()) -> T:
        """Call a function in the recommender's thread.

        Args:
            call: Function without arguments that uses the recommender.
            new: Items whose texts the call needs, to encode them with those of other requests.

        Returns:
            The result of the call.

        Raises:
            OverloadedError: If too many requests wait already.
            Exception: The exception that the call raises.
        """
        answer: T = await self.batcher.submit(Job(call, new))
        return answer

    async def submit_all(self, questions: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Answer several questions of one request together.

        Args:
            questions: Coroutines that answer them.

        Returns:
            Their answers, in order.

        Raises:
            BaseException: The first error among the answers.
        """
        answers = await asyncio.gather(*questions, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def start(self) -> None:
        """Start both threads; call it in a running event loop."""
        self.batcher.start()
        self.writer.start()

    async def stop(self) -> None:
        """Answer the waiting requests, save the state and close the store."""
        await self.writer.stop()
        await self.batcher.stop()
        await asyncio.get_running_loop().run_in_executor(None, self.engine.save_snapshot)
        self.store.close()

    def _store_all(self, batches: list[Sequence[NewEvent]]) -> list[int | Exception]:
        return [self._store_events(events) for events in batches]

    def _store_events(self, events: Sequence[NewEvent]) -> int | Exception:
        try:
            self.engine.recommender.catalog.find_rows([event.item for event in events])
            return len(self.store.append(events))
        except LlmrecError as error:
            return error
