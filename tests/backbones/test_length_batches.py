"""Batches of texts: each text once, and no other cuts that cost less."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmrec.backbones.length_batches import batch_by_length


def padded(batches: list[np.ndarray], lengths: np.ndarray) -> list[int]:
    return [len(rows) * max(int(lengths[rows].max()), 1) for rows in batches]


def test_batches_by_hand() -> None:
    lengths = np.array([3, 20, 4, 3, 19])
    # Apart: 3 * 4 + 2 * 20 tokens and two batches; together 5 * 20 and one.
    assert [rows.tolist() for rows in batch_by_length(lengths, 100, batch_costs=40)] == [[0, 3, 2], [4, 1]]
    assert [rows.tolist() for rows in batch_by_length(lengths, 100, batch_costs=50)] == [[0, 3, 2, 4, 1]]
    assert [rows.tolist() for rows in batch_by_length(lengths, 30, batch_costs=40)] == [[0, 3, 2], [4], [1]]
    assert batch_by_length(lengths[:0], 30, batch_costs=40) == []


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 40), st.integers(0, 30))
def test_no_other_cuts_pad_less_for_fewer_batches(drawn: list[int], at_once: int, costs: int) -> None:
    lengths = np.array(drawn)
    batches = batch_by_length(lengths, at_once, batch_costs=costs)
    assert np.array_equal(np.concatenate(batches), np.argsort(lengths, kind="stable"))
    sizes = padded(batches, lengths)
    assert all(size <= at_once or len(rows) == 1 for size, rows in zip(sizes, batches, strict=True))
    each = np.unique(np.maximum(lengths, 1))
    for cuts in range(2 ** (len(each) - 1)):  # which of the increasing lengths end a group
        groups = np.split(each, [row + 1 for row in range(len(each) - 1) if cuts >> row & 1])
        other = 0
        for group in groups:
            n_texts = int(np.isin(np.maximum(lengths, 1), group).sum())
            width = int(group[-1])
            other += n_texts * width + -(-n_texts // max(at_once // width, 1)) * costs
        assert sum(sizes) + len(batches) * costs <= other
