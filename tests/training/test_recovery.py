"""What was planted is found again: how often people move and where to, when habits changed, when people follow them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from llmrec.config.drift import NO_DECAY_DAYS, DriftConfig, TermName
from llmrec.data.histories import Queries, make_queries
from llmrec.data.splits import TEST, VALID
from llmrec.drift.fit_chain import cluster_text_vectors, fit_chain
from llmrec.drift.fit_head import DriftValidation, FittedHead, fit_drift
from llmrec.drift.mixture import build_recent_events
from llmrec.drift.scorers import DriftScorer
from llmrec.drift.stream import REFRESH_DAILY, ReplayStream
from llmrec.drift.terms.latent_chain import ChainTables, LatentChain
from llmrec.drift.terms.transitions import TransitionRows
from llmrec.drift.text_neighbors import center_and_normalize
from llmrec.evaluation.intervals import Difference, bootstrap_difference
from llmrec.evaluation.metrics import ndcg_at
from llmrec.evaluation.ranking import rank_queries
from llmrec.utils.arrays import EPS
from tests.data.drifting_log import CrowdEffect, DriftingLog, make_drifting_log

K = 5
# Pairs of neighbors only, in their order: what the crowd goes on to is planted from one event to the next.
CONFIG = DriftConfig(
    window=1,
    backward_weight=0.0,
    half_lives_days=(30.0, NO_DECAY_DAYS),
    transition_half_lives_days=(NO_DECAY_DAYS,),
    n_text_neighbors=5,
    n_states=K,
)
WITHOUT_CHAIN: tuple[TermName, ...] = ("interest", "environment", "transitions", "gate")
FADES_WITH_THE_GAP = CrowdEffect(odds=2.5, slope=-1.5)  # .92 at once, .5 after four days, .05 after a month


class TopicAverages:
    """A model that knows the topics, each item's share within its topic, and how often a user took each topic."""

    def __init__(self, world: DriftingLog) -> None:
        counts = np.bincount(world.split.train.item, minlength=world.split.n_items) + 1.0
        topic = world.truth.item_topic
        self.topic = torch.from_numpy(np.eye(K)[topic]).float()  # (N, K)
        self.within = torch.from_numpy(np.log(counts / np.bincount(topic, counts)[topic])).float()

    def score(self, queries: Queries) -> Tensor:
        """(B, N)"""
        query, item = map(torch.from_numpy, queries.list_seen_pairs())
        taken = torch.full((len(queries), K), 0.5).index_put_((query,), self.topic[item], accumulate=True)
        return (taken / taken.sum(1, keepdim=True)).log() @ self.topic.T + self.within


def vectors_of(world: DriftingLog) -> Tensor:
    return center_and_normalize(torch.from_numpy(world.vectors))


@cache
def moving(days: float) -> tuple[DriftingLog, LatentChain]:
    """People jump once in so many days, and nobody follows the crowd; and the chain that was fitted to it."""
    world = make_drifting_log(moves_per_day=1 / days)
    return world, fit_chain(world.split, "strict", vectors_of(world), K)


def state_of_topic(world: DriftingLog, chain: LatentChain) -> NDArray[np.int64]:
    """(K,) the state that stands for each topic, one for one, by what its items are evidence for."""
    evidence = chain.evidence(vectors_of(world)).numpy()  # (N, K)
    agreement = np.stack([evidence[world.truth.item_topic == topic].sum(0) for topic in range(K)])
    return np.asarray(linear_sum_assignment(-agreement)[1])


def fitted(world: DriftingLog, config: DriftConfig) -> FittedHead:
    vectors = vectors_of(world)
    stream = ReplayStream.from_split(config, world.split, "strict", vectors)
    if "chain" in config.terms:
        chain = fit_chain(world.split, "strict", vectors, config.n_states)
        stream = replace(stream, chain=ChainTables.from_chain(chain, vectors))
    valid = make_queries(world.split, VALID)
    return fit_drift(DriftValidation.from_stream(TopicAverages(world), stream, valid), stream, mask_seen=False)


def gained(world: DriftingLog, fit: FittedHead) -> Difference:
    """NDCG@10 on the test of the head minus that of the model under it; users are drawn."""
    base, test = TopicAverages(world), make_queries(world.split, TEST)
    scorers = DriftScorer(fit.head, base, fit.stream), base
    head, static = (ndcg_at(rank_queries(scorer, test, mask_seen=False).rank, 10) for scorer in scorers)
    return bootstrap_difference(head, static, test.user)


@pytest.mark.parametrize("days", [20.0, 60.0])
def test_the_chain_finds_how_often_people_move(days: float) -> None:
    """Within a quarter, in the belief that most of interest is read from; the other has little to tell it apart."""
    _, chain = moving(days)
    fast = torch.sigmoid(chain.blend)
    mostly = int(fast > 0.5)
    assert abs(float(fast) - 0.5) > 0.2
    assert 1 / 1.25 < float(chain.chain.log_rate[mostly].exp()) * days < 1.25


@pytest.mark.parametrize("days", [20.0, 60.0])
def test_the_chain_finds_where_people_move_to(days: float) -> None:
    world, chain = moving(days)
    state = state_of_topic(world, chain)
    read = chain.evidence(vectors_of(world)).argmax(1).numpy()
    assert (read == state[world.truth.item_topic]).mean() > 0.95
    elsewhere = ~np.eye(K, dtype=bool)
    found, planted = chain.chain.transition.numpy()[np.ix_(state, state)][elsewhere], world.truth.jumps[elsewhere]
    error = np.abs(found - planted).mean()
    assert error < 0.08
    assert error < np.abs(1 / (K - 1) - planted).mean() / 2


def test_fitting_the_chain_makes_held_out_events_likelier() -> None:
    world, chain = moving(20.0)
    vectors, valid = vectors_of(world), make_queries(world.split, VALID)
    started = LatentChain(cluster_text_vectors(vectors, K, np.random.default_rng(0))).requires_grad_(False)
    prior = torch.from_numpy(np.log(np.bincount(world.split.train.item, minlength=len(vectors)) + EPS)).float()
    surprise = {}
    for name, one in (("started", started), ("fitted", chain)):
        tables = ChainTables.from_chain(one, vectors)
        chances = tables.interest_from_history(build_recent_events(valid)) @ (tables.emission + prior).softmax(
            1
        )  # (Q, N)
        surprise[name] = -float(chances.gather(1, torch.from_numpy(valid.target)[:, None]).log().mean())
    assert surprise["fitted"] < surprise["started"] - 0.1


def test_where_nobody_moves_the_chain_stands_still() -> None:
    world = make_drifting_log(n_users=600, moves_per_day=0.0)
    chain = fit_chain(world.split, "strict", vectors_of(world), K)
    mostly = int(torch.sigmoid(chain.blend) > 0.5)
    assert float(chain.chain.half_life_days[mostly]) > 365


@pytest.mark.parametrize(("switch", "half_life_days"), [(0.5, 60.0), (1.0, NO_DECAY_DAYS)])
def test_pairs_fade_where_the_crowds_habit_changed_and_only_there(switch: float, half_life_days: float) -> None:
    world = make_drifting_log(n_users=700, habit=CrowdEffect(odds=0.5, switch=switch))
    config = replace(CONFIG, terms=WITHOUT_CHAIN, transition_half_lives_days=(60.0, NO_DECAY_DAYS))
    assert world.truth.switch_time < world.split.valid_start or switch == 1.0
    assert fitted(world, config).stream.transition_half_life_days == half_life_days


@pytest.mark.parametrize(("half_life_days", "new"), [(60.0, True), (NO_DECAY_DAYS, False)])
def test_faded_pairs_lead_where_the_crowd_goes_now(half_life_days: float, new: bool) -> None:
    """More than half of the events before the test are from before the switch: pairs that never fade hold to these."""
    world = make_drifting_log(habit=CrowdEffect(odds=0.5, switch=0.6))
    config = replace(CONFIG, transition_half_lives_days=(half_life_days,))
    streamed = ReplayStream.from_split(config, world.split, "strict", None).new_counts()
    streamed.count_until(world.split.interactions, world.split.test_start)
    counted = sum(table.toarray() for table in streamed.transitions.tables)
    items, truth = np.arange(world.split.n_items), world.truth
    before, after = (counted[items, successor] for successor in truth.successors)
    assert ((after > before).mean() > 0.9) == new
    assert ((counted.argmax(1) == truth.successors[1]).mean() > 0.9) == new


@cache
def gated() -> tuple[DriftingLog, FittedHead]:
    """People follow the crowd within a session, and their own interest, which moves, after a pause."""
    world = make_drifting_log(habit=FADES_WITH_THE_GAP)
    return world, fitted(world, replace(CONFIG, terms=WITHOUT_CHAIN, gap_decay_days=1.0))


def test_the_gate_leaves_to_transitions_what_was_planted() -> None:
    """At every gap within .1, with pairs of one session counted, which are what the crowd goes on to and little else.

    `shift` stays out: it is set by NDCG, not by likelihood.
    """
    world, fit = gated()
    test = make_queries(world.split, TEST)
    test = test.take(test.end > test.start)
    recent = build_recent_events(test)
    gap = np.expm1(recent.context[:, 1].double().numpy())
    row_sum = torch.zeros(recent.item.shape, dtype=torch.float64)
    for rows, now in fit.stream.replay(fit.stream.new_counts(), test, REFRESH_DAILY):
        row_sum[rows] = TransitionRows.from_counts(now, fit.stream.text).row_sum(recent)[rows]
    share = fit.head.log_mixture_shares(recent, row_sum, shift=torch.zeros(2)).exp()[:, 1].numpy()
    planted = FADES_WITH_THE_GAP.chance(gap)
    found = []
    for least, most in ((0.0, 0.1), (0.1, 2.0), (2.0, 5.0), (5.0, 20.0), (20.0, 60.0), (60.0, 730.0)):
        chosen = (least <= gap) & (gap < most)
        assert chosen.sum() > 50
        found.append(share[chosen].mean())
        assert abs(found[-1] - planted[chosen].mean()) < 0.1
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.8
    assert found[-1] < 0.1


def test_the_head_is_far_ahead_where_people_follow_the_crowd() -> None:
    world, fit = gated()
    assert gained(world, fit).low > 0.4


def test_the_head_is_ahead_where_interest_moves() -> None:
    """No habit of the crowd here: the gain is the chain's. The environment tells it what is popular in a state."""
    world, chain = moving(20.0)
    config = replace(CONFIG, terms=("environment", "chain"))
    stream = ReplayStream.from_split(config, world.split, "strict", None)
    stream = replace(stream, chain=ChainTables.from_chain(chain, vectors_of(world)))
    judged = DriftValidation.from_stream(TopicAverages(world), stream, make_queries(world.split, VALID))
    assert gained(world, fit_drift(judged, stream, mask_seen=False)).low > 0.05


@pytest.mark.parametrize("terms", [CONFIG.terms, WITHOUT_CHAIN], ids=["all terms", "without chain"])
def test_the_head_costs_nothing_where_nothing_moves(terms: tuple[TermName, ...]) -> None:
    """Noise apart: the interval holds zero or lies above it, and what it holds below is small."""
    world = make_drifting_log(n_users=1200, moves_per_day=0.0)
    difference = gained(world, fitted(world, replace(CONFIG, terms=terms)))
    assert difference.high >= 0
    assert difference.low > -0.005
