"""Queries among processes: every one is ranked once, in the batch in which one process would rank it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llmrec.data.histories import Histories, Queries
from llmrec.evaluation.ranking import query_batch_size
from llmrec.training.distributed.parallel_ranking import take_own_queries


def asked(n: int) -> Queries:
    none = np.zeros(0, dtype=np.int64)
    rows, zeros = np.arange(n), np.zeros(n, dtype=np.int64)
    return Queries(Histories(none, none, np.zeros(2, dtype=np.int64), none), rows, rows, zeros, zeros, zeros)


@pytest.mark.parametrize(("n", "processes"), [(1000, 2), (1000, 3), (7, 3), (0, 2), (10, 1), (30, 3)])
def test_shares_are_whole_batches_of_which_each_is_in_one(n: int, processes: int) -> None:
    def place(process: int) -> Any:
        return SimpleNamespace(num_processes=processes, process_index=process)

    shares = [take_own_queries(asked(n), place(process), batch_size=10).user for process in range(processes)]
    assert np.array_equal(np.concatenate(shares), np.arange(n))
    assert all(share[0] % 10 == 0 for share in shares if len(share))
    assert max(map(len, shares)) - min(map(len, shares)) <= 10 + 9  # as even as batches can be


@pytest.mark.parametrize(("n_items", "expected"), [(0, 256), (12_101, 256), (10_000_000, 26), (1 << 30, 1)])
def test_fewer_queries_are_scored_at_once_in_large_catalogs(n_items: int, expected: int) -> None:
    assert query_batch_size(n_items) == expected
