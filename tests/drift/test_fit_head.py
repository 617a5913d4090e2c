"""The head finds what moves, and costs nothing where nothing does."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from llmrec.config.drift import DriftConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, VALID, Split, split_by_time
from llmrec.drift import fit_head
from llmrec.drift.fit_chain import fit_chain
from llmrec.drift.fit_head import (
    DriftValidation,
    FittedHead,
    collect_validation_passes,
    fit_drift,
    head_negative_log_likelihood,
)
from llmrec.drift.head import DriftHead
from llmrec.drift.scorers import DriftScorer
from llmrec.drift.stream import ReplayStream
from llmrec.drift.terms import BY_NAME
from llmrec.drift.terms.latent_chain import ChainTables
from llmrec.drift.text_neighbors import center_and_normalize
from llmrec.evaluation.ranking import mean_ndcg
from llmrec.utils.units import SECONDS_PER_DAY

N_ITEMS, N_USERS = 60, 300
CONFIG = DriftConfig(
    terms=("interest", "environment", "transitions", "gate"),
    transition_half_lives_days=(20.0, 36_500.0),
    half_lives_days=(7.0, 36_500.0),
    n_text_neighbors=5,
)


class Known:
    """Knows the popularity of the log's first part, as a model trained on it would."""

    def __init__(self, split: Split) -> None:
        self.counts = torch.from_numpy(np.bincount(split.train.item, minlength=N_ITEMS)).float()

    def score(self, queries: Queries) -> Tensor:
        return torch.log(self.counts + 1).expand(len(queries), -1).clone()


def world(follows: bool) -> Split:
    """Eight events of each user, a week apart, over two years. One item is as good as another, but where `follows` is
    true, 7 in 10 times the one after j is j + 1 in the first year and j + 7 from then on.
    """
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(N_USERS), 8)
    start = np.repeat(rng.integers(0, 660, N_USERS), 8)
    time = (start + np.tile(np.arange(8), N_USERS) * 7) * SECONDS_PER_DAY
    item = rng.integers(0, N_ITEMS, len(user))
    if follows:
        for row in range(len(user)):
            if row % 8 and rng.random() < 0.7:
                item[row] = (item[row - 1] + (7 if time[row] > 365 * SECONDS_PER_DAY else 1)) % N_ITEMS
    return split_by_time(Interactions.sort(user, item, time), N_USERS, N_ITEMS)


def fitted(split: Split, base: Known, stream: ReplayStream) -> FittedHead:
    return fit_drift(DriftValidation.from_stream(base, stream, make_queries(split, VALID)), stream, mask_seen=False)


def compared(split: Split) -> tuple[float, float, ReplayStream]:
    """NDCG@10 on the test of the static model and of the head on top of it."""
    base, test = Known(split), make_queries(split, TEST)
    fit = fitted(split, base, ReplayStream.from_split(CONFIG, split, "strict", None))
    drifting = mean_ndcg(DriftScorer(fit.head, base, fit.stream), test, mask_seen=False)
    return mean_ndcg(base, test, mask_seen=False), drifting, fit.stream


def test_it_follows_what_people_go_on_to_now() -> None:
    static, drifting, stream = compared(world(follows=True))
    assert drifting > static + 0.3
    assert stream.transition_half_life_days == 20.0  # the first year's steps mislead


def test_without_anything_to_follow_it_costs_next_to_nothing() -> None:
    static, drifting, _ = compared(world(follows=False))
    assert drifting > static - 0.02


def test_without_validation_queries_the_head_is_left_as_it_starts() -> None:
    split = world(follows=False)
    none, stream = make_queries(split, VALID).take(slice(0, 0)), ReplayStream.from_split(CONFIG, split, "strict", None)
    head = fit_drift(DriftValidation.from_stream(Known(split), stream, none), stream, mask_seen=True).head
    assert not head.shift.any()
    assert not head.eta.any()


def test_the_fit_makes_validation_likelier() -> None:
    split = world(follows=True)
    valid, base = make_queries(split, VALID), Known(split)
    stream = replace(ReplayStream.from_split(CONFIG, split, "strict", None), transition_half_life_days=20.0)
    fit = fitted(split, base, stream)
    target = torch.from_numpy(valid.target)[:, None]
    likelier = DriftScorer(fit.head, base, fit.stream).score(valid).gather(1, target).mean()
    plain = base.score(valid).log_softmax(1).gather(1, target).mean()
    assert float(likelier) > float(plain) + 0.5


def test_what_is_watched_is_what_is_ranked() -> None:
    """The likelihood that is maximized is that of the mixture which ranks, chain and all."""
    split = world(follows=True)
    base, vectors = (
        Known(split),
        center_and_normalize(torch.randn(N_ITEMS, 8, generator=torch.Generator().manual_seed(0))),
    )
    config = replace(CONFIG, terms=("interest", "environment", "transitions", "chain", "gate"), n_states=4)
    chain = ChainTables.from_chain(fit_chain(split, "strict", vectors, 4), vectors)
    stream = replace(ReplayStream.from_split(config, split, "strict", vectors), chain=chain)
    valid = make_queries(split, VALID)
    judged = DriftValidation.from_stream(base, stream, valid)
    fit = fit_drift(judged, stream, mask_seen=False)
    watched = sum(
        float(head_negative_log_likelihood(fit.head, seen)) for seen in collect_validation_passes(judged, fit.stream)
    )
    ranked = DriftScorer(fit.head, base, fit.stream).score(valid).gather(1, torch.from_numpy(valid.target)[:, None])
    assert watched == pytest.approx(-float(ranked.sum()), rel=1e-4)


def test_every_shift_can_be_told() -> None:
    head = DriftHead(CONFIG)
    for shift in BY_NAME["chain"].implementation.shifts:
        head.shift.fill_(shift)
        assert json.loads(json.dumps(head.describe(), allow_nan=False))["shift"] == [shift, shift]


def test_only_some_days_of_a_long_window_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_head, "MAX_DAYS", 5)
    monkeypatch.setattr(fit_head, "MAX_CACHED_SCORES", 20 * N_ITEMS)
    split = world(follows=False)
    valid, stream = make_queries(split, VALID), ReplayStream.from_split(CONFIG, split, "strict", None)
    judged = DriftValidation.from_stream(Known(split), stream, valid)
    assert len(np.unique(judged.queries.time // SECONDS_PER_DAY)) <= 5
    assert 0 < len(judged.queries) <= 20
    torch.testing.assert_close(judged.scores, Known(split).score(judged.queries))


def test_no_mixture_saves_a_target_that_is_given_up() -> None:
    rng = torch.Generator().manual_seed(0)
    chances = torch.rand(200, 3, 40, generator=rng)
    chances[:, 1:] *= torch.rand(200, 2, 40, generator=rng) < 0.2  # few items have a chance by the other parts
    target = torch.randint(40, (200, 1), generator=rng)
    hopeful = fit_head._reachable_targets(chances, target, k=5)
    assert 0 < len(hopeful) < 200
    shares = torch.rand(500, 1, 3, generator=rng)
    mixed = (shares[:, None] @ chances)[:, :, 0]  # (500, 200, 40)
    higher = (mixed > mixed.gather(2, target.expand(500, -1, 1))).sum(2).amin(0)  # (200,) at best
    given_up = torch.ones(200, dtype=torch.bool).index_fill(0, hopeful, False)
    assert (higher[given_up] >= 5).all()
