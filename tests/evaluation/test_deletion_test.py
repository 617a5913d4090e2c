"""Naming what matters beats chance, and naming at random does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from llmrec.evaluation.deletion_test import ExplainedItem, run_deletion_test
from llmrec.reports.faithfulness_text import format_deletion_table


def score(histories: Sequence[Sequence[float]], items: Sequence[float]) -> list[float]:
    """Return the summed worth of events, times the item."""
    return [item * sum(history) for history, item in zip(histories, items, strict=True)]


def test_the_fall_is_that_of_the_events_worth() -> None:
    explained = [ExplainedItem([1.0, 5.0, 2.0], 1.0, [1, 2, 0]), ExplainedItem([4.0, 0.0], 2.0, [0, 1])]
    found = run_deletion_test(explained, score, 1)
    assert found is not None
    assert (found.n_deleted, found.n_explained) == (1, 2)
    assert found.named.value == pytest.approx((5 + 8) / 2)
    assert found.random.value == pytest.approx((8 / 3 + 4) / 2)  # each in turn
    assert found.newest.value == pytest.approx((2 + 0) / 2)
    assert found.named_over_random.difference == pytest.approx(6.5 - 10 / 3)


def test_histories_of_no_more_events_are_left_out() -> None:
    short, long = ExplainedItem([1.0, 2.0], 1.0, [1, 0]), ExplainedItem([1.0, 2.0, 7.0, 0.0], 1.0, [2, 1, 0, 3])
    found = run_deletion_test([short, long], score, 3)
    assert found is not None
    assert found.n_explained == 1
    assert found.named.value == 10.0
    assert run_deletion_test([short], score, 2) is None


def test_order_tells_from_chance() -> None:
    rng = np.random.default_rng(0)
    worth = rng.random((200, 6)).tolist()
    named = [ExplainedItem(events, 1.0, np.argsort(events)[::-1].tolist()) for events in worth]
    blind = [ExplainedItem(events, 1.0, rng.permutation(6).tolist()) for events in worth]
    for n in (1, 2):
        told, guessed = run_deletion_test(named, score, n), run_deletion_test(blind, score, n)
        assert told is not None
        assert guessed is not None
        assert told.named_over_random.low > 0.2
        assert guessed.named_over_random.low < 0 < guessed.named_over_random.high
    assert format_deletion_table([told])[2].startswith("| 2 | 200 | ")
