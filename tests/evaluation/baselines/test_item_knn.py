from __future__ import annotations

import numpy as np
import pytest

from llmrec.data.histories import make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, VALID, Split
from llmrec.evaluation.baselines import ItemKNN, ItemKNNSettings, Tuning, item_knn


def dense_similarity(split: Split, settings: ItemKNNSettings) -> np.ndarray:
    """The formula, by hand on dense matrices."""
    seen = np.zeros((split.n_users, split.n_items))
    seen[split.train.user, split.train.item] = 1
    together, norm = seen.T @ seen, np.sqrt(seen.sum(axis=0))
    similarity = np.divide(
        together, np.outer(norm, norm) + settings.shrinkage, out=np.zeros_like(together), where=together > 0
    )
    np.fill_diagonal(similarity, 0)
    for row in similarity:
        row[np.argsort(-row, kind="stable")[settings.neighbors :]] = 0
    return similarity


@pytest.mark.parametrize("settings", [ItemKNNSettings(5, 2.0, 0.7), ItemKNNSettings(100, 0.0, 1.0)])
def test_scores_are_those_of_the_dense_computation(
    split: Split, settings: ItemKNNSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_knn, "_ROWS_AT_ONCE", 7)
    model, queries = ItemKNN.fit(split, settings), make_queries(split, TEST)
    similarity = dense_similarity(split, settings)
    assert np.allclose(model.similarity.toarray(), similarity, atol=1e-6)
    scores = model.score(queries).numpy()
    for q in range(len(queries)):
        history = queries.histories.item[queries.start[q] : queries.end[q]]
        expected = sum(settings.gamma**back * similarity[item] for back, item in enumerate(history[::-1]))
        assert np.allclose(scores[q], expected, atol=1e-5)


def test_two_items_of_the_same_two_users_by_hand() -> None:
    """Items 0 and 1 share both users: 2 / (sqrt(2) sqrt(2) + 2) = 0.5; a repeated event counts once."""
    log = Interactions(np.array([0, 0, 0, 1, 1, 0, 1]), np.array([0, 0, 1, 0, 1, 2, 2]), np.arange(7))
    split = Split("by_time", log, np.array([0, 0, 0, 0, 0, 1, 2], dtype=np.int8), 2, 3, 5, 6)
    similarity = ItemKNN.fit(split, ItemKNNSettings(10, 2.0, 1.0)).similarity.toarray()
    assert similarity[0, 1] == similarity[1, 0] == 0.5
    assert similarity[2].sum() == similarity[:, 2].sum() == similarity.trace() == 0


def test_nothing_in_the_history_means_no_preference(split: Split) -> None:
    queries = make_queries(split, TEST)
    empty = queries.take(slice(0, 1))
    empty.end[:] = empty.start
    assert not ItemKNN.fit(split).score(empty).any()


def test_tuning_finds_the_best_of_what_it_tried(split: Split) -> None:
    found = ItemKNN.tune(split, make_queries(split, VALID), Tuning(budget=3))
    assert len({settings for settings, _ in found.tried}) == 3
    assert dict(found.tried)[found.chosen] == max(ndcg for _, ndcg in found.tried)
