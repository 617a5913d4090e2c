from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec.data.histories import make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, VALID, Split, leave_one_out
from llmrec.evaluation.baselines import MatrixModel, MatrixSettings, Popularity, Tuning
from llmrec.evaluation.ranking import mean_ndcg

SMALL = MatrixSettings("product", dim=8, learning_rate=1e-2, epochs=3)


def two_tastes() -> Split:
    """Even users like the first half of the items, odd ones the second half."""
    rng = np.random.default_rng(0)
    liked = [rng.permutation(20)[:14] + (user % 2) * 20 for user in range(30)]
    item = np.concatenate(liked)
    user = np.repeat(np.arange(30), 14)
    return leave_one_out(Interactions.sort(user, item, rng.permutation(len(item))), 30, 40)


def test_the_additive_form_ranks_the_catalog_alike_for_all_users(split: Split) -> None:
    model = MatrixModel.fit(split, replace(SMALL, form="additive"))
    scores = model.score(make_queries(split, TEST))
    without_user = scores - scores.mean(dim=1, keepdim=True)
    assert torch.allclose(without_user, without_user[:1].expand_as(without_user), atol=1e-5)


def test_the_product_form_learns_tastes_and_the_additive_one_cannot() -> None:
    split = two_tastes()
    queries = make_queries(split, TEST)
    product, additive = (
        mean_ndcg(MatrixModel.fit(split, replace(SMALL, form=form, epochs=200)), queries)
        for form in ("product", "additive")
    )
    assert product > additive + 0.05
    assert product > mean_ndcg(Popularity.fit(split), queries) + 0.05


def test_the_same_seed_gives_the_same_model(split: Split) -> None:
    queries = make_queries(split, TEST)
    torch.manual_seed(1)
    first = MatrixModel.fit(split, SMALL).score(queries)
    torch.manual_seed(2)
    assert torch.equal(first, MatrixModel.fit(split, SMALL).score(queries))
    assert not torch.equal(first, MatrixModel.fit(split, replace(SMALL, seed=1)).score(queries))


@pytest.mark.parametrize("form", ["additive", "product"])
def test_scores_are_the_logits_it_was_trained_with(split: Split, form: str) -> None:
    model = MatrixModel.fit(split, replace(SMALL, form=form))
    queries = make_queries(split, TEST)
    user = torch.from_numpy(queries.user)[:, None]
    items = torch.arange(split.n_items).expand(len(queries), -1)
    assert torch.allclose(model(user, items), model.score(queries), atol=1e-5)


def test_early_stopping_tells_the_epochs_that_a_refit_repeats(split: Split) -> None:
    valid = make_queries(split, VALID)
    stopped = MatrixModel.fit_until_best(split, SMALL, valid)
    again = MatrixModel.fit(split, stopped.settings)
    assert stopped.settings.epochs >= 1
    assert torch.equal(stopped.score(valid), again.score(valid))


def test_users_without_training_events_are_typical(split: Split) -> None:
    model, cold = MatrixModel.fit(split, SMALL), split.cold_user_mask()
    if not cold.any():
        pytest.skip("this split has no cold users")
    assert torch.allclose(model.users[torch.from_numpy(cold)], model.users[torch.from_numpy(~cold)].mean(dim=0))


def test_tuning_stays_within_its_budget(split: Split) -> None:
    found = MatrixModel.tune(split, make_queries(split, VALID), "additive", Tuning(budget=2, queries=20))
    assert len(found.tried) == 2
    assert found.chosen.form == "additive"
