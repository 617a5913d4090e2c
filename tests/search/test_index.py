"""Every index finds the same, up to what an approximate one may miss."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch

from llmrec.errors import ConfigError
from llmrec.search.faiss_index import FaissIndex
from llmrec.search.index import ExactIndex, ItemIndex, recall_at_k
from llmrec.search.milvus_index import MilvusIndex
from llmrec.search.open_index import open_index

DIM = 8
VECTORS = torch.randn(600, DIM, generator=torch.Generator().manual_seed(0))
QUERIES = torch.randn(5, DIM, generator=torch.Generator().manual_seed(1))
BACKENDS = "exact", "int8", "ivf", "sq8", "hnsw", "milvus"
Make: TypeAlias = Callable[[str], ItemIndex]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """make(backend): an empty index that looks thoroughly."""
    numbers, file = count(), tmp_path_factory.mktemp("milvus") / "items.db"

    def made(backend: str) -> ItemIndex:
        if backend in ("exact", "int8"):
            return ExactIndex(DIM, "float32" if backend == "exact" else "int8")
        if backend == "milvus":
            pytest.importorskip("pymilvus", reason="needs pymilvus (extra: milvus)")
            pytest.importorskip("milvus_lite", reason="needs Milvus Lite (extra: milvus)")
            return MilvusIndex(DIM, str(file), collection=f"items{next(numbers)}")
        pytest.importorskip("faiss", reason="needs FAISS (extra: faiss)")
        return FaissIndex(DIM, backend, n_probes=99, n_candidates=200)  # all of its lists, a third of the items

    return made


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def index(make: Make, backend: str) -> ItemIndex:
    return make(backend)


def best(rows: np.ndarray, k: int) -> list[list[int]]:
    """By scores of the vectors that rows (ascending) have."""
    return torch.from_numpy(rows)[(QUERIES @ VECTORS[rows].T).topk(k).indices].tolist()


def assert_finds(index: ItemIndex, backend: str, rows: np.ndarray, k: int, allowed: np.ndarray | None = None) -> None:
    """The best of rows; from bytes nine of ten of them. Scores are those of what is found."""
    found = index.search(QUERIES, k, allowed=allowed)
    right = best(rows, k)
    if backend == "sq8":
        assert np.isin(found.item.numpy(), rows).all()
        shared = [len({*mine} & {*theirs}) / k for mine, theirs in zip(found.item.tolist(), right, strict=True)]
        assert np.mean(shared) >= 0.9
    else:
        assert found.item.tolist() == right
    scores = torch.einsum("bd,bkd->bk", QUERIES, VECTORS[found.item])
    torch.testing.assert_close(found.score, scores, atol=0.1 if backend == "sq8" else 1e-5, rtol=0)
    assert (found.score.diff(dim=1) <= 0).all()


def test_items_come_and_go(index: ItemIndex, backend: str) -> None:
    assert index.search(QUERIES, 3).item.tolist() == [[-1] * 3] * 5
    rows = np.random.default_rng(0).permutation(600)
    index.add(rows[:400], VECTORS[rows[:400]])
    index.add(rows[400:], VECTORS[rows[400:]])
    assert len(index) == 600
    assert_finds(index, backend, np.arange(600), 10)
    index.remove(np.arange(0, 700, 2))
    assert len(index) == 300
    assert_finds(index, backend, np.arange(1, 600, 2), 10)
    index.add(np.arange(0, 600, 2), VECTORS[::2])  # come back
    assert len(index) == 600
    assert_finds(index, backend, np.arange(600), 10)
    index.remove(np.arange(600))
    assert index.search(QUERIES, 1).item.tolist() == [[-1]] * 5
    index.add(np.array([7]), VECTORS[7:8])
    assert index.search(QUERIES, 2).item.tolist() == [[7, -1]] * 5


def test_a_row_that_comes_back_with_another_vector_is_found_by_that(index: ItemIndex) -> None:
    index.add(np.arange(600), VECTORS)
    index.remove(np.array([5]))
    assert 5 not in index.search(VECTORS[5:6], 600).item
    index.add(np.array([5]), 10 * QUERIES[:1])
    assert index.search(QUERIES[:1], 1).item.tolist() == [[5]]


def test_only_what_is_allowed_is_found(index: ItemIndex, backend: str) -> None:
    index.add(np.arange(600), VECTORS)
    allowed = np.arange(300) % 3 == 0  # says nothing of the later half
    assert_finds(index, backend, np.arange(0, 300, 3), 10, allowed)
    assert_finds(index, backend, np.flatnonzero(np.arange(600) % 50), 10, np.arange(600) % 50 > 0)
    assert_finds(index, backend, np.arange(600), 10, np.ones(700, dtype=np.bool_))
    few = index.search(QUERIES, 3, allowed=np.arange(2) == 1)
    assert few.item.tolist() == [[1, -1, -1]] * 5
    assert few.score[:, 1:].tolist() == [[-torch.inf] * 2] * 5
    assert index.search(QUERIES, 2, allowed=np.zeros(600, dtype=np.bool_)).item.tolist() == [[-1, -1]] * 5


def test_what_cannot_be_added_is_refused(index: ItemIndex) -> None:
    index.add(np.arange(3), VECTORS[:3])
    for rows in ([2], [5, 5], [-1]):
        with pytest.raises(ConfigError, match="some are negative, repeated or in the index"):
            index.add(np.array(rows), VECTORS[: len(rows)])
    with pytest.raises(ConfigError, match=r"shape \(2, 8\) for 1 items. Give \(1, 8\)"):
        index.add(np.array([7]), VECTORS[:2])
    assert len(index) == 3


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_looking_less_finds_less_but_never_fewer(kind: str) -> None:
    pytest.importorskip("faiss", reason="needs FAISS (extra: faiss)")
    vectors = torch.randn(2005, 64, generator=torch.Generator().manual_seed(2))
    vectors, queries = vectors[:2000], vectors[2000:]
    exact, hasty, thorough = (
        ExactIndex(64),
        FaissIndex(64, kind, n_probes=1, n_candidates=1),
        FaissIndex(64, kind, n_probes=99, n_candidates=2000),
    )
    for index in (exact, hasty, thorough):
        index.add(np.arange(2000), vectors)
    right = exact.search(queries, 5)
    assert recall_at_k(thorough.search(queries, 5), right) == 1.0
    assert 0.05 < recall_at_k(hasty.search(queries, 5), right) < 1.0
    for allowed in (None, np.arange(2000) % 3 == 0, np.arange(2000) < 90):
        assert (hasty.search(queries, 400, allowed=allowed).item >= 0).sum(1).tolist() == [
            400 if allowed is None else min(int(allowed.sum()), 400)
        ] * 5


def test_a_collection_outlives_its_index(tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite", reason="needs Milvus Lite (extra: milvus)")
    place = str(tmp_path / "items.db")
    MilvusIndex(DIM, place).add(np.arange(600), VECTORS)
    assert MilvusIndex(DIM, place).search(QUERIES, 10).item.tolist() == best(np.arange(600), 10)
    with pytest.raises(ConfigError, match="has 8 dimensions, not 9"):
        MilvusIndex(9, place)
    assert len(open_index(f"milvus:{place}", 9)) == 0  # anew


def test_indexes_have_names() -> None:
    pytest.importorskip("faiss", reason="needs FAISS (extra: faiss)")
    assert isinstance(open_index("exact", DIM), ExactIndex)
    opened = [open_index(name, DIM) for name in ("ivf", "sq8", "hnsw")]
    assert [index.kind for index in opened if isinstance(index, FaissIndex)] == ["ivf", "sq8", "hnsw"]
    with pytest.raises(ConfigError, match=r"index='flat': unknown. Use exact, ivf, sq8, hnsw, milvus:file\.db"):
        open_index("flat", DIM)
