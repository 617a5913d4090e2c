"""What a service holds while it runs: the recommender's thread, the store's thread, and what is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from llmrec.errors import LlmrecError
from llmrec.inference.live.store.event_store import EventStore, NewEvent
from llmrec.recommender import Recommender
from llmrec.service.batching import Batcher
from llmrec.service.prometheus import ServiceMetrics
from llmrec.service.settings import ServiceSettings
from llmrec.service.worker import Job, Question, Worker

T = TypeVar("T")


class ServiceRuntime:
    """What the routes share. batcher: asks the recommender. writer: stores events, in a thread of its own, so that a
    commit, which waits for the disk, keeps no answer waiting.
    """

    def __init__(self, recommender: Recommender, settings: ServiceSettings, store: EventStore) -> None:
        self.settings, self.store, self.metrics = settings, store, ServiceMetrics()
        self.engine = Worker(recommender, settings, store, self.metrics)
        self.engine.preload_backbone()
        limit, together = settings.limits.waiting, settings.most_together
        self.batcher: Batcher[Question, Any] = Batcher(
            self.engine.process_batch, settings.max_wait_ms, together, limit, "recommender"
        )
        self.writer: Batcher[Sequence[NewEvent], int] = Batcher(self._store_all, 0, together, limit, "store")

    async def submit(self, call: Callable[[], T], new: tuple[Mapping[str, Any], ...] = ()) -> T:
        """Something with the recommender, in its thread. new: items whose texts it will need."""
        answer: T = await self.batcher.submit(Job(call, new))
        return answer

    async def submit_all(self, asked: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Of several questions of one request, together; the first error among them is its answer."""
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def start(self) -> None:
        self.batcher.start()
        self.writer.start()

    async def stop(self) -> None:
        """Answer what waits, save the state, and let go of the store."""
        await self.writer.stop()
        await self.batcher.stop()
        await asyncio.get_running_loop().run_in_executor(None, self.engine.save_snapshot)
        self.store.close()

    def _store_all(self, asked: list[Sequence[NewEvent]]) -> list[int | Exception]:
        return [self._store_events(events) for events in asked]

    def _store_events(self, events: Sequence[NewEvent]) -> int | Exception:
        try:
            self.engine.recommender.catalog.find_rows([event.item for event in events])
            return len(self.store.append(events))
        except LlmrecError as error:
            return error
