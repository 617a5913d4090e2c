"""Text match: cosines by hand, the nearest-text baseline as a term of the model, and nothing at all where it is off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmrec.config.model import ModelConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.splits import VALID, split_by_time
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.evaluation.baselines.nearest_text import NearestText, NearestTextSettings
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.text_similarity import TextSimilarity

MODEL = ModelConfig(dim=8, n_layers=1, n_heads=2, max_history=50)
N_ITEMS = 40


def test_states_by_hand() -> None:
    match = TextSimilarity(torch.tensor([[3.0, 1.0], [1.0, 3.0], [-1.0, 1.0], [1.0, -1.0]]))  # the mean is (1, 1)
    match.set_parameters(strength=10.0, recency=0.5)
    items = match.item_vectors(torch.tensor([[3.0, 1.0], [1.0, 5.0]]))
    torch.testing.assert_close(items, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    states = match.history_states(items[None])
    # Before any event; after the first; after the second, which weighs twice the first: 10 (1, 2) / sqrt(5).
    torch.testing.assert_close(states, torch.tensor([[[0.0, 0.0], [10.0, 0.0], [4.472136, 8.944272]]]))
    for single in range(3):
        torch.testing.assert_close(
            match.history_states(items[None], states=torch.tensor([single])), states[:, [single]]
        )


def queries() -> Queries:
    log = make_synthetic_log(n_users=60, n_items=N_ITEMS, n_topics=4, events_per_user=9, seed=0)[0]
    return make_queries(split_by_time(log.interactions, log.n_users, log.n_items), VALID, ties="strict")


def model_of(config: ModelConfig) -> tuple[RecommenderModel, torch.Tensor]:
    torch.manual_seed(0)
    text = torch.randn(N_ITEMS, 12) + 1.0
    return RecommenderModel(config, torch.arange(N_ITEMS) % 5 > 0, text).eval(), text


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_scores_gain_the_cosine_of_the_nearest_text_baseline(similarity: str) -> None:
    model, text = model_of(replace(MODEL, similarity=similarity))  # type: ignore[arg-type]
    asked = queries()
    without = ModelScorer(model).score(asked)
    assert model.items().shape[1] == MODEL.dim
    assert model.items.match is not None
    model.items.match.set_parameters(strength=3.0, recency=0.7)
    gained = ModelScorer(model).score(asked) - without
    baseline = NearestText.fit(text.numpy(), NearestTextSettings(gamma=0.7)).score(asked)
    assert (np.diff(np.unique(asked.end - asked.start)) > 0).any()  # histories of several lengths
    torch.testing.assert_close(gained, 3.0 * baseline, atol=1e-4, rtol=1e-4)


def test_new_items_are_matched_as_those_of_the_catalog() -> None:
    model, text = model_of(MODEL)
    assert model.items.match is not None
    model.items.match.set_parameters(strength=3.0, recency=0.7)
    unknown = torch.nonzero(~model.items.known).flatten()
    torch.testing.assert_close(model.items()[unknown], model.items.encode_text(text[unknown]))


def test_texts_are_compared_in_the_space_of_a_map(tmp_path: Path) -> None:
    model, text = model_of(MODEL)
    space = torch.randn(12, 12)
    assert model.items.match is not None
    model.items.match.set_map(space)
    model.items.match.set_parameters(strength=3.0, recency=0.7)
    asked, without = queries(), model_of(MODEL)[0]
    gained = ModelScorer(model).score(asked) - ModelScorer(without).score(asked)
    baseline = NearestText.fit((text @ space).numpy(), NearestTextSettings(gamma=0.7)).score(asked)
    torch.testing.assert_close(gained, 3.0 * baseline, atol=1e-4, rtol=1e-4)
    unknown = torch.nonzero(~model.items.known).flatten()
    torch.testing.assert_close(model.items()[unknown], model.items.encode_text(text[unknown]))
    save_file(model.state_dict(), tmp_path / "weights")
    without.load_state_dict(load_file(tmp_path / "weights"))
    torch.testing.assert_close(ModelScorer(without).score(asked), ModelScorer(model).score(asked))


def test_the_space_is_copied_between_texts_of_one_width() -> None:
    one, same, other = (TextSimilarity(torch.randn(5, width)) for width in (3, 3, 4))
    one.set_map(torch.randn(3, 3))
    same.copy_space(one)
    torch.testing.assert_close(same.item_vectors(torch.ones(2, 3)), one.item_vectors(torch.ones(2, 3)))
    other.copy_space(one)
    torch.testing.assert_close(other.map, torch.eye(4))


def test_nothing_is_trained_beside_it() -> None:
    model, _ = model_of(MODEL)
    assert model.items.match is not None
    model.items.match.set_parameters(strength=3.0, recency=0.7)
    assert model.items().shape[1] > model.train().items().shape[1] == MODEL.dim


def test_what_is_not_asked_for_is_not_there() -> None:
    assert model_of(replace(MODEL, text_similarity=False))[0].items.match is None
    assert RecommenderModel(MODEL, torch.ones(3, dtype=torch.bool), None).items.match is None
