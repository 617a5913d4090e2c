"""Candidates come about as they are told, ranks are those by hand, and a decoder knows what it was taught."""

from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.backbones.likelihood import LineLikelihood
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.token_store import TokenStore
from llmrec.config.backbone import BackboneConfig
from llmrec.config.jobs.rerank import PromptConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.splits import TEST, Split, split_by_time
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import ConfigError
from llmrec.evaluation.baselines import Popularity
from llmrec.evaluation.candidate_ranking import (
    CandidatePool,
    Candidates,
    LikelihoodReranker,
    draw_random_scores,
    first_stage_candidates,
    gather_scores,
    rank_candidates,
    sample_candidates,
)
from llmrec.evaluation.metrics import compute_metrics
from llmrec.evaluation.ranking import ScoreError, rank_queries

TITLES = [
    "red oil",
    "cream",
    "face shampoo",
    "hair",
    "lipstick",
    "war drama",
    "love comedy",
    "night",
    "river",
    "garden",
]


@pytest.fixture(scope="module")
def world() -> tuple[Split, Queries]:
    log, _ = make_synthetic_log(n_users=60, n_items=50, events_per_user=8)
    split = split_by_time(log.interactions, log.n_users, log.n_items)
    queries = make_queries(split, TEST)
    return split, queries.take(queries.end > queries.start)


def seen(queries: Queries, row: int) -> set[int]:
    return set(queries.histories.item[queries.start[row] : queries.end[row]].tolist())


def test_the_first_stages_best_are_its_ranking(world: tuple[Split, Queries]) -> None:
    split, queries = world
    popularity = Popularity.fit(split)
    candidates = first_stage_candidates("popularity", popularity, queries, CandidatePool(20), seed=0)
    scores = gather_scores(popularity, queries, candidates)
    assert (np.diff(scores, axis=1) <= 0).all()
    whole = rank_queries(popularity, queries)
    ours = rank_candidates(candidates, scores, queries, 5)
    for row, items in enumerate(candidates.items):
        assert len(set(items.tolist())) == 20
        assert not seen(queries, row) & set(items.tolist())
        worst, best = scores[row].min(), popularity.score(queries.take([row]))[0, queries.target[row]]
        if best > worst:  # no ties at the border: the rank is that among the whole catalog
            assert ours.rank[row] == whole.rank[row]
        elif best < worst:
            assert np.isinf(ours.rank[row])
    assert candidates.target_recall(queries) == np.isfinite(ours.rank).mean()
    assert "popularity ranks first" in candidates.description
    assert "counts as a miss" in candidates.description


def test_sampled_candidates_hold_the_target_and_follow_popularity(world: tuple[Split, Queries]) -> None:
    split, queries = world
    counts = np.bincount(split.train.item, minlength=split.n_items)
    drawn = np.zeros(split.n_items)
    for seed in range(100):
        candidates = sample_candidates(split, queries, CandidatePool(10), seed)
        assert candidates.target_recall(queries) == 1
        others = candidates.items[candidates.items != queries.target[:, None]].reshape(len(queries), 9)
        for row, items in enumerate(others):
            assert not seen(queries, row) & set(items.tolist())
            assert len(set(items.tolist())) == 9
        drawn += np.bincount(others.ravel(), minlength=split.n_items)
    assert drawn[counts == 0].sum() == 0
    assert np.corrcoef(drawn, counts)[0, 1] > 0.9
    assert "the target itself and 9 unseen items" in candidates.description


def test_a_catalog_too_small_is_told(world: tuple[Split, Queries]) -> None:
    split, queries = world
    with pytest.raises(ConfigError, match=r"n_candidates=51: some queries have only \d+ eligible items"):
        sample_candidates(split, queries, CandidatePool(51), 0)
    with pytest.raises(ConfigError, match=r"n_candidates=50: some queries have only \d+ eligible items"):
        first_stage_candidates("popularity", Popularity.fit(split), queries, CandidatePool(50), seed=0)


def test_ranks_by_hand(world: tuple[Split, Queries]) -> None:
    queries = world[1].take(np.arange(3))
    target = queries.target
    others = np.array([[row for row in range(50) if row != one][:3] for one in target])
    items = np.column_stack([others[:, 0], target, others[:, 1:]])
    items[2, 1] = next(row for row in range(49, 0, -1) if row not in items[2])  # its target is not there
    scores = np.array([[3.0, 2.0, 2.0, 1.0], [0.0, 5.0, 1.0, 2.0], [9.0, 9.0, 9.0, 9.0]])
    ranking = rank_candidates(Candidates(items, ""), scores, queries, 2)
    assert ranking.rank.tolist() == [2.5, 1.0, np.inf]
    assert ranking.top[1].tolist() == [items[1, 1], items[1, 3]]
    values = compute_metrics(ranking.rank, (10,))
    assert [of_query[2] for of_query in values.values()] == [0, 0, 0]
    scores[0, 0] = np.nan
    with pytest.raises(ScoreError, match="scores: 1 of 12 are NaN"):
        rank_candidates(Candidates(items, ""), scores, queries, 2)


def test_a_random_order_is_as_good_as_it_should_be() -> None:
    """Mean NDCG@10 over all ranks 1 .. 100 is sum of 1 / log2(1 + r) over the first ten, / 100."""
    n = 4000
    places = np.zeros(n, dtype=np.int64)
    queries = Queries(None, places, places, places, places, places)  # type: ignore[arg-type]
    candidates = Candidates(np.tile(np.arange(100), (n, 1)), "")
    ranking = rank_candidates(candidates, draw_random_scores((n, 100), 0), queries, 10)
    expected = (1 / np.log2(1 + np.arange(1, 11))).sum() / 100
    assert compute_metrics(ranking.rank, (10,))["ndcg@10"].mean() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("name", ["tiny_gpt2", "tiny_llama"])
def test_a_decoder_that_was_taught_what_follows_puts_it_first(name: str, request: pytest.FixtureRequest) -> None:
    """Planted: item i + 1 always follows item i, which no score that looks past the history could know."""
    torch.manual_seed(0)
    likelihood = LineLikelihood(
        TextBackbone.load(BackboneConfig(name=str(request.getfixturevalue(name)), hub_id="owner/tiny"))
    )
    prompt = PromptConfig("Bought:", history=2)
    judge = LikelihoodReranker(likelihood, likelihood.tokenize_lines(TITLES), prompt)
    n = len(TITLES)
    teach(likelihood, [judge.build_prompt(np.arange(start, start + 4) % n)[:-1] for start in range(n)])

    item = np.tile(np.arange(n), 2)[: n + 3]
    start = np.arange(n)
    histories = type("H", (), {"item": item})()
    queries = Queries(histories, start, start, (start + 3) % n, start, start + 3)  # type: ignore[arg-type]
    candidates = Candidates(np.tile(np.arange(n), (n, 1)), "")
    found = judge.score(queries, candidates.items, ("mean", "sum", "gain"))
    for kind, scores in found.items():
        assert (rank_candidates(candidates, scores, queries, 1).rank == 1).mean() >= 0.9, kind
    np.testing.assert_allclose(found["mean"] * judge.lines.lengths, found["sum"])
    alone = likelihood.score_lines(judge.build_prompt(np.arange(0)), judge.lines)
    np.testing.assert_allclose(found["sum"] - found["gain"], np.tile(alone, (n, 1)))


def teach(likelihood: LineLikelihood, texts: list[np.ndarray]) -> None:
    """Next words, until they are known by heart."""
    model, head = likelihood.backbone.model, likelihood.head
    parameters = {id(p): p for p in [*model.parameters(), *head.parameters()]}.values()
    optimizer = torch.optim.AdamW(parameters, lr=5e-3)
    offset = np.cumsum([0, *(len(text) for text in texts)])
    ids, mask = TokenStore(np.concatenate(texts), offset, 0).get_batch(np.arange(len(texts)), torch.device("cpu"))
    for _ in range(120):
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        told = mask[:, 1:].bool()
        loss = torch.nn.functional.cross_entropy(head(hidden[:, :-1][told]), ids[:, 1:][told])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_the_prompt_shows_the_newest_items_oldest_first(tiny_llama: Path) -> None:
    likelihood = LineLikelihood(TextBackbone.load(BackboneConfig(name=str(tiny_llama), hub_id="owner/tiny")))
    judge = LikelihoodReranker(likelihood, likelihood.tokenize_lines(TITLES), PromptConfig("Bought:"))
    text = likelihood.backbone.tokenizer.decode(judge.build_prompt(np.array([3, 1])))
    assert text == "<s>Bought:\n- hair\n- cream\n-"
