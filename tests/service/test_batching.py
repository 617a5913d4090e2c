"""Questions that come together are answered together, each by itself where one of them is at fault."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from llmrec.service.batching import Batcher, OverloadedError


def asked(handle: Any, questions: list[int], waiting: int = 100, most: int = 8) -> list[Any]:
    async def ask() -> list[Any]:
        batcher: Batcher[int, int] = Batcher(handle, 20.0, most, waiting, name="test")
        batcher.start()
        answers = await asyncio.gather(*map(batcher.submit, questions), return_exceptions=True)
        await batcher.stop()
        with pytest.raises(OverloadedError):
            await batcher.submit(0)
        return answers

    return asyncio.run(ask())


def test_they_are_gathered_and_answered_in_order() -> None:
    sizes = []

    def handle(questions: list[int]) -> list[int]:
        sizes.append(len(questions))
        return [10 * question for question in questions]

    assert asked(handle, list(range(20))) == [10 * each for each in range(20)]
    assert sizes == [8, 8, 4]


def test_an_error_is_for_whom_it_concerns() -> None:
    answers = asked(lambda questions: [ValueError(each) if each == 1 else each for each in questions], [0, 1, 2])
    assert (answers[0], answers[2]) == (0, 2)
    assert isinstance(answers[1], ValueError)


def test_a_fault_is_told_to_all_and_ends_nothing() -> None:
    def handle(questions: list[int]) -> list[int]:
        if 0 in questions:
            raise RuntimeError("fault")
        return questions

    answers = asked(handle, list(range(16)))
    assert all(isinstance(answer, RuntimeError) for answer in answers[:8])
    assert answers[8:] == list(range(8, 16))


def test_more_than_may_wait_are_turned_away() -> None:
    def handle(questions: list[int]) -> list[int]:
        time.sleep(0.02)
        return questions

    answers = asked(handle, list(range(50)), waiting=10, most=1)
    turned_away = [answer for answer in answers if isinstance(answer, OverloadedError)]
    assert len(turned_away) == 40
