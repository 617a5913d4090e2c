"""Nearest text in the space of a spectral map: better where kinds decide what follows, refused without neighbors."""

import numpy as np
import pytest
import torch

from llmrec.data.histories import make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import VALID, Split, split_by_time
from llmrec.evaluation.baselines import NearestText, Tuning
from llmrec.evaluation.baselines.mapped_text import MappedTextSettings, compute_text_moments, make_mapped_text
from llmrec.evaluation.ranking import mean_ndcg
from llmrec.models.spectral_map import SpectralMap


@pytest.fixture(scope="module")
def world() -> tuple[Split, np.ndarray]:
    """Users stay with items of one kind; texts tell the kind in directions of little variance."""
    rng, n_users, kinds = np.random.default_rng(0), 200, np.arange(200) % 5
    items = np.stack([rng.permutation(np.flatnonzero(kinds == user % 5))[:10] for user in range(n_users)])
    user = np.tile(np.arange(n_users), 10)
    events = Interactions(user, items.T.ravel(), np.arange(len(user)) * 60)
    text = np.concatenate([0.2 * np.eye(5)[kinds], rng.normal(size=(len(kinds), 8))], axis=1)
    return split_by_time(events, n_users, len(kinds)), text.astype(np.float32)


def test_a_map_ranks_better_than_texts_as_they_are(world: tuple[Split, np.ndarray]) -> None:
    split, text = world
    queries = make_queries(split, VALID)
    maker = make_mapped_text(split, text)
    assert maker is not None
    found = maker.tune(queries, Tuning(budget=3))
    mapped = mean_ndcg(maker.fit(found.chosen), queries, mask_seen=True)
    assert mapped > 2 * mean_ndcg(NearestText.fit(text), queries, mask_seen=True)
    assert found.to_record()["n_tried"] == 3


def test_scores_are_those_of_mapped_vectors(world: tuple[Split, np.ndarray]) -> None:
    split, text = world
    queries = make_queries(split, VALID)
    maker = make_mapped_text(split, text)
    assert maker is not None
    space = SpectralMap.fit([maker.moments], ridge=0.3).matrix
    expected = NearestText.fit((torch.from_numpy(text) @ space).numpy()).score(queries)
    found = maker.fit(MappedTextSettings(ridge=0.3)).score(queries)
    torch.testing.assert_close(found, expected)


def test_without_neighbors_there_is_no_map() -> None:
    lonely = Interactions(np.arange(20), np.arange(20) % 2, 10 * np.arange(20))
    split = split_by_time(lonely, 20, 2)
    assert compute_text_moments(split, torch.randn(2, 3)) is None
