"""The event log: sorted stably, validated, never mutated."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec.data.interactions import Interactions
from llmrec.errors import DataError


def rows(*values: int) -> np.ndarray:
    array = np.array(values, dtype=np.int64)
    array.setflags(write=False)
    return array


def test_sort_keeps_the_order_of_equal_times() -> None:
    log = Interactions.sort(rows(0, 1, 2, 3), rows(10, 11, 12, 13), rows(5, 3, 5, 3))
    assert log.item.tolist() == [11, 13, 10, 12]
    assert log.user.tolist() == [1, 3, 0, 2]
    assert log.time.tolist() == [3, 3, 5, 5]


def test_sort_by_an_order_within_equal_times() -> None:
    log = Interactions.sort(rows(0, 1, 2, 3), rows(10, 11, 12, 13), rows(5, 3, 5, 3), order=rows(2, 9, 1, 8))
    assert log.item.tolist() == [13, 11, 12, 10]


def test_take_by_mask_and_by_rows() -> None:
    log = Interactions(rows(0, 1, 0), rows(7, 8, 9), rows(1, 2, 3))
    assert log.take(np.array([True, False, True])).item.tolist() == [7, 9]
    assert log.take(rows(1, 2)).time.tolist() == [2, 3]
    assert len(log.take(rows())) == 0


def test_unequal_columns_are_refused() -> None:
    with pytest.raises(DataError, match=r"unequal lengths \[1, 2\]"):
        Interactions(rows(0, 1), rows(0), rows(1, 2))


def test_events_out_of_order_are_refused() -> None:
    with pytest.raises(DataError, match=r"Interactions\.sort"):
        Interactions(rows(0, 0), rows(0, 1), rows(2, 1))
