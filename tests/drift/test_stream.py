"""A head over a log that goes by knows what is past at its refresh, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from llmrec.config.drift import DriftConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, Split, split_by_time
from llmrec.drift.head import DriftHead
from llmrec.drift.mixture import build_recent_events
from llmrec.drift.scorers import DriftScorer, TermScorer
from llmrec.drift.stream import NO_REFRESH, REFRESH_DAILY, ReplayStream
from llmrec.drift.terms.latent_chain import ChainTables, LatentChain
from llmrec.drift.text_neighbors import center_and_normalize
from llmrec.evaluation.ranking import Scorer
from llmrec.utils.units import SECONDS_PER_DAY

N_USERS, N_ITEMS = 12, 9
CONFIG = DriftConfig(transition_half_lives_days=(30.0,), n_text_neighbors=3)


class Even:
    """The same score for everything."""

    def score(self, queries: Queries) -> Tensor:
        return torch.zeros(len(queries), N_ITEMS)


def split() -> Split:
    rng = np.random.default_rng(0)
    time = np.sort(rng.integers(0, 100, 150)) * SECONDS_PER_DAY + rng.integers(0, 2, 150) * 3600
    log = Interactions.sort(rng.integers(0, N_USERS, 150), rng.integers(0, N_ITEMS, 150), time)
    return split_by_time(log, N_USERS, N_ITEMS)


def head() -> DriftHead:
    module = DriftHead(CONFIG).requires_grad_(False)
    module.eta.fill_(0.3)
    return module


def stream(parts: Split) -> ReplayStream:
    torch.manual_seed(0)
    vectors = center_and_normalize(torch.randn(N_ITEMS, 4))
    chain = LatentChain(torch.eye(4)[:3]).requires_grad_(False)
    return replace(
        ReplayStream.from_split(CONFIG, parts, "strict", vectors), chain=ChainTables.from_chain(chain, vectors)
    )


def scorer_of(name: str, on: ReplayStream, days: float) -> Scorer:
    if name == "drift":
        return DriftScorer(head(), Even(), on, refresh_days=days)
    return TermScorer("chain" if name == "chain" else "transitions", head(), on)


@pytest.mark.parametrize("days", [REFRESH_DAILY, 7.0, NO_REFRESH])
def test_every_sweep_and_every_batch_size_gives_the_same(days: float) -> None:
    parts = split()
    queries, scorer = make_queries(parts, TEST), DriftScorer(head(), Even(), stream(parts), refresh_days=days)
    at_once = scorer.score(queries)
    torch.testing.assert_close(at_once.exp().sum(1), torch.ones(len(queries)))
    torch.testing.assert_close(scorer.score(queries), at_once)
    one_by_one = torch.cat([scorer.score(queries.take(slice(row, row + 1))) for row in range(len(queries))])
    torch.testing.assert_close(one_by_one, at_once)


@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("drift", REFRESH_DAILY),
        ("drift", 7.0),
        ("drift", NO_REFRESH),
        ("transitions", REFRESH_DAILY),
        ("chain", REFRESH_DAILY),
    ],
)
def test_what_others_do_from_the_refresh_on_changes_nothing(name: str, days: float) -> None:
    parts = split()
    queries = make_queries(parts, TEST)
    query = queries.take(slice(len(queries) - 1, len(queries)))
    moment = int(stream(parts).refresh_times(query.time, days)[0])
    assert moment <= query.time[0]
    log = parts.interactions
    later = np.where(log.time >= moment, (log.item + 1) % N_ITEMS, log.item)
    before = np.where(log.time < moment, (log.item + 1) % N_ITEMS, log.item)
    scores = [
        scorer_of(name, replace(stream(parts), log=replace(log, item=item)), days).score(query)
        for item in (log.item, later, before)
    ]
    torch.testing.assert_close(scores[1], scores[0])
    assert not torch.allclose(scores[2], scores[0])


def test_refreshes_are_counted_from_the_midnight_before_the_start() -> None:
    at = replace(stream(split()), start=10 * SECONDS_PER_DAY + 3600)
    time = np.array(
        [
            10 * SECONDS_PER_DAY + 3600,
            12 * SECONDS_PER_DAY,
            17 * SECONDS_PER_DAY - 1,
            17 * SECONDS_PER_DAY,
            9 * SECONDS_PER_DAY,
        ]
    )
    assert at.refresh_times(time, 1.0).tolist() == [
        10 * SECONDS_PER_DAY,
        12 * SECONDS_PER_DAY,
        16 * SECONDS_PER_DAY,
        17 * SECONDS_PER_DAY,
        9 * SECONDS_PER_DAY,
    ]
    assert at.refresh_times(time, 7.0).tolist() == [
        10 * SECONDS_PER_DAY,
        10 * SECONDS_PER_DAY,
        10 * SECONDS_PER_DAY,
        17 * SECONDS_PER_DAY,
        3 * SECONDS_PER_DAY,
    ]
    assert set(at.refresh_times(time, NO_REFRESH)) == {10 * SECONDS_PER_DAY + 3600}


def test_what_the_head_sees_of_a_history() -> None:
    log = Interactions(np.array([0, 0, 0]), np.array([5, 6, 7]), np.array([0, 2, 10]) * SECONDS_PER_DAY)
    parts = split()
    parts = Split(
        "by_time", log, np.array([0, 0, TEST], dtype=np.int8), 1, N_ITEMS, 9 * SECONDS_PER_DAY, 10 * SECONDS_PER_DAY
    )
    recent = build_recent_events(make_queries(parts, TEST))
    assert recent.item.tolist() == [[5, 6]]
    assert recent.age_days.tolist() == [[10, 8]]
    assert recent.steps_back.tolist() == [[1, 0]]
    context = [1.0, np.log(9), np.log(3), 0.0, np.log(3), 0.0]
    torch.testing.assert_close(recent.context, torch.tensor([context]).float())
    stale = build_recent_events(make_queries(parts, TEST), trained_until=6 * SECONDS_PER_DAY)
    torch.testing.assert_close(stale.context, torch.tensor([[*context[:5], np.log(5)]]).float())


def test_a_million_items_fit() -> None:
    n_items = 1_000_000
    rng = np.random.default_rng(0)
    log = Interactions.sort(
        rng.integers(0, 50, 500), rng.integers(0, n_items, 500), rng.integers(0, 90, 500) * SECONDS_PER_DAY
    )
    parts = split_by_time(log, 50, n_items)
    vectors = torch.nn.functional.normalize(torch.randn(n_items, 4), dim=1)
    chain = ChainTables.from_chain(LatentChain(torch.eye(4)).requires_grad_(False), vectors)
    on = replace(ReplayStream.from_split(CONFIG, parts, "strict", None), chain=chain)
    scores = TermScorer("chain", head(), on).score(make_queries(parts, TEST).take(slice(0, 4)))
    torch.testing.assert_close(scores.double().sum(1), torch.ones(4).double(), atol=1e-3, rtol=0)
    moved = TermScorer("transitions", head(), on).score(make_queries(parts, TEST).take(slice(0, 4)))
    assert moved.shape == (4, n_items)
