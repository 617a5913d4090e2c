"""Every index finds the same, up to what an approximate one may miss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmrec.errors import ConfigError
from llmrec.retrieval.index import ExactIndex, FaissIndex, Index, recall

DIM = 8
VECTORS = torch.randn(600, DIM, generator=torch.Generator().manual_seed(0))
QUERIES = torch.randn(5, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["exact", "int8", "faiss"])
def index(request: pytest.FixtureRequest) -> Index:
    if request.param == "faiss":
        pytest.importorskip("faiss")
        return FaissIndex(DIM, n_probes=99)  # all of its lists
    return ExactIndex(DIM, "float32" if request.param == "exact" else "int8")


def best(rows: np.ndarray, k: int) -> list[list[int]]:
    """By scores of the vectors that rows (ascending) have."""
    return torch.from_numpy(rows)[(QUERIES @ VECTORS[rows].T).topk(k).indices].tolist()


def test_items_come_and_go(index: Index) -> None:
    assert index.search(QUERIES, 3).item.tolist() == [[-1] * 3] * 5
    rows = np.random.default_rng(0).permutation(600)
    index.add(rows[:400], VECTORS[rows[:400]])
    index.add(rows[400:], VECTORS[rows[400:]])
    assert len(index) == 600
    found = index.search(QUERIES, 10)
    assert found.item.tolist() == best(np.arange(600), 10)
    torch.testing.assert_close(found.score, (QUERIES @ VECTORS.T).topk(10).values)
    index.remove(np.arange(0, 700, 2))
    assert len(index) == 300
    assert index.search(QUERIES, 10).item.tolist() == best(np.arange(1, 600, 2), 10)
    index.remove(np.arange(600))
    assert index.search(QUERIES, 1).item.tolist() == [[-1]] * 5


def test_only_what_is_allowed_is_found(index: Index) -> None:
    index.add(np.arange(600), VECTORS)
    allowed = np.arange(300) % 3 == 0  # says nothing of the later half
    assert index.search(QUERIES, 10, allowed).item.tolist() == best(np.arange(0, 300, 3), 10)
    few = index.search(QUERIES, 3, np.arange(2) == 1)
    assert few.item.tolist() == [[1, -1, -1]] * 5
    assert few.score[:, 1:].tolist() == [[-torch.inf] * 2] * 5


def test_what_cannot_be_added_is_refused(index: Index) -> None:
    index.add(np.arange(3), VECTORS[:3])
    for rows in ([2], [5, 5], [-1]):
        with pytest.raises(ConfigError, match="each is to be new"):
            index.add(np.array(rows), VECTORS[: len(rows)])
    with pytest.raises(ConfigError, match=r"shape \(2, 8\) for 1 items; give \(1, 8\)"):
        index.add(np.array([7]), VECTORS[:2])


def test_fewer_lists_find_less() -> None:
    pytest.importorskip("faiss")
    exact, one, all_of_them = ExactIndex(DIM), FaissIndex(DIM, 1), FaissIndex(DIM, 99)
    for index in (exact, one, all_of_them):
        index.add(np.arange(600), VECTORS)
    right = exact.search(QUERIES, 50)
    assert recall(all_of_them.search(QUERIES, 50), right) == 1.0
    assert 0.1 < recall(one.search(QUERIES, 50), right) < 1.0
