from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from llmrec.search import block_scorer, quantized_table, topk
from llmrec.search.quantized_table import Precision, QuantizedTable, use_huge_pages
from llmrec.search.row_pairs import RowPairs
from llmrec.search.topk import top_k
from llmrec.search.topk_buffer import pack_keys, unpack_keys

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")


def whole(seed: int, *shape: int) -> Tensor:
    """Small whole numbers, whose products and sums are exact however they are worked out, with many ties."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def by_sorting(scores: Tensor, k: int) -> tuple[list[list[float]], list[list[int]]]:
    """Best first, ties by row; -1 where nothing is left."""
    table = scores.numpy()
    order = np.argsort(-table, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(table, order, 1)
    return best.tolist(), np.where(np.isneginf(best), -1, order).tolist()


@pytest.fixture(params=["plain", "groups", "scan"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small tables are scored as a whole, by groups or not, or scanned block by block as large ones are."""
    if request.param == "groups":
        monkeypatch.setattr(topk, "GROUPED", 1)
    if request.param == "scan":
        for name, value in {
            "SMALL": 512,
            "SAMPLE": 64,
            "PLAIN_CELLS": 1,
            "CELLS": 1 << 12,
            "MIN_BLOCK_ITEMS": 32,
        }.items():
            for module in (topk, block_scorer):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, value)
    return str(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("n_items", "n_queries", "k"), [(40, 3, 7), (3000, 1, 5), (9000, 600, 20)])
def test_the_best_are_those_of_a_stable_sort(precision: Precision, n_items: int, n_queries: int, k: int) -> None:
    items, queries = whole(0, n_items, 16), whole(1, n_queries, 16)
    bias = whole(2, n_items)
    bias[::5] = -torch.inf
    rows = torch.Generator().manual_seed(3)
    seen = RowPairs(
        torch.randint(n_queries, (4 * n_queries,), generator=rows),
        torch.randint(n_items, (4 * n_queries,), generator=rows),
    )
    scores = queries @ items.T + bias
    scores[seen.query, seen.item] = -torch.inf
    score, item = by_sorting(scores, k)
    found = top_k(QuantizedTable.from_vectors(items, precision), queries, k, without=seen, bias=bias)
    assert found.score.tolist() == score
    assert found.item.tolist() == item
    plain, best = top_k(QuantizedTable.from_vectors(items, precision), queries, k), by_sorting(queries @ items.T, k)
    assert (plain.score.tolist(), plain.item.tolist()) == best


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_scan_finds_all_by_itself(precision: Precision, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = topk._search_exact
    monkeypatch.setattr(
        topk, "_search_exact", lambda *given, **options: calls.append(len(given[1])) or plain(*given, **options)
    )
    rows = torch.Generator().manual_seed(0)
    items, queries = torch.randn(5000, 16, generator=rows), torch.randn(300, 16, generator=rows)
    for asked in (queries, -queries.abs()):  # the latter with scores below 0 alone, of items that are above
        found = top_k(QuantizedTable.from_vectors(items, precision), asked, 10)
        assert found.item.tolist() == by_sorting(asked @ items.T, 10)[1]
        items = items.abs()
    assert calls == ([300, 300] if way != "scan" else [])
    calls.clear()
    monkeypatch.setattr(topk, "PLAIN_CELLS", 1 << 23)
    top_k(QuantizedTable.from_vectors(items, precision), queries[:1], 10)
    assert calls == ([1] if way != "scan" or precision == "float32" else [])  # exact vectors may be on disk


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_threshold_guessed_too_high_is_noticed(precision: Precision) -> None:
    items = whole(0, 2048, 8)  # of which every 32nd is in the sample of a scan, and all of the best are
    items[::32] *= 100
    queries = whole(1, 5, 8)
    found = top_k(QuantizedTable.from_vectors(items, precision), queries, 60)
    assert (found.score.tolist(), found.item.tolist()) == by_sorting(queries @ items.T, 60)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_more_candidates_than_are_kept_are_ranked_from_the_exact_vectors(precision: Precision) -> None:
    steps = torch.arange(4000.0)
    items = torch.stack([torch.full_like(steps, 1.0), steps / 2**24], dim=1)  # all the same once compressed
    items[0, 1] = 1.0
    found = top_k(QuantizedTable.from_vectors(items, precision), torch.tensor([[0.0, 1.0]]), 3)
    assert found.item.tolist() == [[0, 3999, 3998]]


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_scanned_scores_are_wrong_by_the_slack_at_most(precision: Precision) -> None:
    rows = torch.Generator().manual_seed(0)
    items = torch.randn(500, 32, generator=rows) * torch.rand(32, generator=rows)
    queries = torch.randn(20, 32, generator=rows)
    table = QuantizedTable.from_vectors(items, precision)
    coded, sums = table.quantize_queries(queries), torch.empty(500, 20)
    table.write_products(coded, 0, sums)
    wrong = (sums.double() - items.double() @ queries.double().T).abs().amax(0)
    assert bool((wrong <= coded.slack).all())
    assert bool((coded.slack < 30 * wrong).all())  # and not by orders of magnitude less


@pytest.mark.usefixtures("way")
def test_without_integer_products_int8_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized_table, "has_integer_products", lambda: False)
    items, queries = whole(0, 900, 8), whole(1, 4, 8)
    found = top_k(QuantizedTable.from_vectors(items, "int8"), queries, 5)
    assert (found.score.tolist(), found.item.tolist()) == by_sorting(queries @ items.T, 5)


@pytest.mark.parametrize(("n_items", "k"), [(240, 10), (247, 10), (5000, 1), (5003, 100)])
def test_the_best_are_in_the_groups_with_the_largest_maxima(
    n_items: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk, "GROUPED", 1)
    scores = torch.stack([torch.randperm(n_items, generator=torch.Generator().manual_seed(row)) for row in range(50)])
    best, item = topk._select_by_groups(scores.float(), k)
    assert torch.equal(best.long(), n_items - 1 - torch.arange(k).expand(50, k))
    assert torch.equal(scores.gather(1, item), best.long())


@pytest.mark.usefixtures("way")
def test_nan_is_never_found_among_many() -> None:
    items = torch.randn(3000, 8, generator=torch.Generator().manual_seed(0))
    items[[0, 7, 2999]] = torch.nan  # the first is in the sample
    queries = items[1:5]
    expected = by_sorting((queries @ items.T).nan_to_num(nan=-torch.inf), 20)[1]
    assert top_k(QuantizedTable.from_vectors(items), queries, 20).item.tolist() == expected


def test_nan_is_never_found_and_missing_items_are_told() -> None:
    items = torch.tensor([[1.0], [torch.nan], [2.0]])
    found = top_k(QuantizedTable.from_vectors(items), torch.tensor([[1.0]]), 5)
    assert found.item.tolist() == [[2, 0, -1, -1, -1]]
    assert found.score.tolist() == [[2.0, 1.0, *[-torch.inf] * 3]]


def test_no_queries_find_nothing() -> None:
    found = top_k(QuantizedTable.from_vectors(torch.ones(3, 2)), torch.ones(0, 2), 2)
    assert found.score.shape == found.item.shape == (0, 2)


def test_what_cannot_be_asked_is_refused() -> None:
    table = QuantizedTable.from_vectors(torch.ones(3, 2))
    with pytest.raises(ValueError, match="k=0"):
        top_k(table, torch.ones(1, 2), 0)
    with pytest.raises(ValueError, match=r"\(1, 3\), but items have width 2"):
        top_k(table, torch.ones(1, 3), 1)


def test_keys_sort_by_score_and_then_by_row() -> None:
    score = torch.tensor([-torch.inf, -2.0, -1e-30, -0.0, 0.0, 1e-30, 2.0, torch.inf])
    item = torch.tensor([7, 6, 5, 3, 2, 1, 0, 1 << 31])
    keys = pack_keys(score, item)
    assert keys.tolist() == sorted(keys.tolist())
    found = unpack_keys(keys)
    assert found[0].tolist() == score.tolist()
    assert found[1].tolist() == [-1, *item.tolist()[1:]]


def test_laying_a_large_table_out_changes_nothing_in_it() -> None:
    table = torch.arange(1 << 24, dtype=torch.float32).view(-1, 64)  # 64 MiB, from which on it is done
    place = table.data_ptr()
    assert use_huge_pages(table) is table
    assert table.data_ptr() == place
    assert torch.equal(table.flatten(), torch.arange(1 << 24, dtype=torch.float32))
    assert use_huge_pages(table[:0]).shape == (0, 64)
