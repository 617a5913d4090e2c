"""Answer requests that arrive together in one batch, in a thread that never blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from llmrec.errors import LlmrecError

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class OverloadedError(LlmrecError):
    """Error of a request that arrives while the queue is full."""


class Batcher(Generic[Question, Answer]):
    """Collect questions for up to `max_wait_ms` and answer them in batches, one batch at a time.

    While a batch is answered the next one gathers, so that under load no request waits for `max_wait_ms`.

    Attributes:
        handle: Answers a batch, always in the same thread: an answer or an exception for each question, in order.
        max_wait: Seconds to wait for more questions.
        most: Questions in a batch at most.
    """

    def __init__(
        self,
        handle: Callable[[list[Question]], Sequence[Answer | Exception]],
        max_wait_ms: float,
        most_together: int,
        waiting: int,
        *,
        name: str,
    ) -> None:
        """Prepare a batcher; `start` runs it.

        Args:
            handle: Answers a batch: an answer or an exception for each question, in order.
            max_wait_ms: Milliseconds to wait for more questions.
            most_together: Questions in a batch at most.
            waiting: Questions that may wait; more are refused.
            name: Name of the thread.
        """
        self.handle, self.max_wait, self.most = handle, max_wait_ms / 1000, most_together
        self._queue: asyncio.Queue[tuple[Question, asyncio.Future[Answer]] | None] = asyncio.Queue()
        self._waiting = waiting
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to answer questions; call it in a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run_batches())

    async def stop(self) -> None:
        """Answer the waiting questions, then stop."""
        self._queue.put_nowait(None)
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def submit(self, question: Question) -> Answer:
        """Submit a question and wait for its answer.

        Args:
            question: Question for `handle`.

        Returns:
            The answer.

        Raises:
            OverloadedError: If too many questions wait already.
            Exception: The exception that `handle` gives as the answer.
        """
        if self._task is None or self._task.done() or self._queue.qsize() >= self._waiting:
            raise OverloadedError("too many requests wait already; try again in a moment")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((question, future))
        return await future

    async def _run_batches(self) -> None:
        while (first := await self._queue.get()) is not None:
            together, going_on = await self._gather(first)
            waiting = [one for one in together if not one[1].cancelled()]  # codespell:ignore
            questions = [question for question, _ in waiting]
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._thread, self.handle, questions)
            except Exception as error:  # a fault in `handle` must not end this loop
                answers = [error] * len(waiting)
            for (_, future), answer in zip(waiting, answers, strict=True):
                if future.done():
                    continue  # its client disconnected
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
            if not going_on:
                return

    async def _gather(
        self, first: tuple[Question, asyncio.Future[Answer]]
    ) -> tuple[list[tuple[Question, asyncio.Future[Answer]]], bool]:
        """Collect the questions of one batch; the flag is False once no more can come."""
        together, loop = [first], asyncio.get_running_loop()
        deadline = loop.time() + self.max_wait
        while len(together) < self.most:
            try:
                if self._queue.empty():
                    following = await asyncio.wait_for(self._queue.get(), deadline - loop.time())
                else:
                    following = self._queue.get_nowait()
            except asyncio.TimeoutError:
                break
            if following is None:
                return together, False
            together.append(following)
        return together, True
