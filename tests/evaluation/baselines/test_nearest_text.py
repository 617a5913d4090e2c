from __future__ import annotations

import numpy as np
import pytest

from llmrec.data.histories import make_queries
from llmrec.data.splits import TEST, VALID, Split
from llmrec.evaluation.baselines import NearestText, NearestTextSettings, Tuning


@pytest.fixture
def vectors(split: Split) -> np.ndarray:
    return np.random.default_rng(0).normal(loc=3.0, size=(split.n_items, 8)).astype(np.float32)


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.0])
def test_scores_are_cosines_to_the_weighted_mean(split: Split, vectors: np.ndarray, gamma: float) -> None:
    queries = make_queries(split, TEST)
    scores = NearestText.fit(vectors, NearestTextSettings(gamma)).score(queries).numpy()
    centered = vectors - vectors.mean(axis=0)
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    for q in range(len(queries)):
        history = queries.histories.item[queries.start[q] : queries.end[q]]
        liked = sum((gamma**back * unit[item] for back, item in enumerate(history[::-1])), np.zeros(8))
        length = np.linalg.norm(liked) or 1.0
        assert np.allclose(scores[q], unit @ (liked / length), atol=1e-5)


def test_a_common_part_of_all_texts_changes_nothing(split: Split, vectors: np.ndarray) -> None:
    queries = make_queries(split, TEST)
    shifted = NearestText.fit(vectors + 2).score(queries).numpy()
    assert np.allclose(NearestText.fit(vectors).score(queries).numpy(), shifted, atol=1e-4)


def test_without_a_history_all_items_are_alike(split: Split, vectors: np.ndarray) -> None:
    query = make_queries(split, TEST).take(slice(0, 1))
    query.end[:] = query.start
    assert not NearestText.fit(vectors).score(query).any()


def test_its_recency_is_tuned(split: Split, vectors: np.ndarray) -> None:
    found = NearestText.tune(vectors, make_queries(split, VALID), Tuning(budget=5))
    assert found.to_record()["n_tried"] == 5
