"""An explanation adds up to the score, its exact parts are the mixture's own, and it says what happened."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.config.backbone import Strategy
from llmrec.data.log import Log
from llmrec.drift.terms.chain import state_logits
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.inference.explanations.explanation import Explanation
from llmrec.inference.queries import to_text_history
from llmrec.recommender import Recommender
from tests.closeness import assert_same

DAY = 86_400
FILM = {"title": "space robot drama"}
Drift = Callable[..., Recommender]


@pytest.fixture
def drifting(
    make_bundle: Callable[[Strategy], Bundle],
    add_drift: Callable[..., Bundle],
    log: Log,
    tmp_path: Path,
    tiny_bert: Path,
) -> Drift:
    """drifting(strategy, **settings): a recommender that follows the log's users."""

    def load(strategy: Strategy = "frozen", **settings: object) -> Recommender:
        save_bundle(tmp_path / "drifting", add_drift(make_bundle(strategy), **settings))
        recommender = Recommender.from_pretrained(tmp_path / "drifting", backbone=str(tiny_bert))
        recommender.live.replay_log(log)
        return recommender

    return load


def now(log: Log) -> int:
    return int(log.interactions.time[-1]) + DAY


def check_sums(told: Explanation, score: float) -> None:
    assert told.score == score
    assert math.fsum([told.start, *(part.points for part in told.parts)]) == pytest.approx(told.total, abs=1e-12)
    assert math.fsum([told.start, *told.term_points().values()]) == pytest.approx(told.total, abs=1e-12)
    expected = told.total if told.unit == "logit" else math.log(told.total)
    assert expected == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("item", ["i4", FILM])
@pytest.mark.parametrize("who", ["u1", [], ["i3", "i3", "i9"], [FILM, "i1"]])
def test_parts_add_up_to_the_chance(drifting: Drift, log: Log, who: object, item: object) -> None:
    recommender, at = drifting(), now(log)
    told = recommender.explain(who, item, at=at)
    score = recommender.score(who, [item], at=at)[0]
    check_sums(told, score)
    assert (told.unit, told.start) == ("log_probability", 0.0)
    assert {part.term for part in told.parts if part.exact} == {"chain"} | ({"transitions"} if who else set())


@pytest.mark.parametrize(
    "terms", ["environment", "transitions", "chain", "interest transitions", "environment chain gate"]
)
def test_parts_add_up_whatever_the_terms(drifting: Drift, log: Log, terms: str) -> None:
    recommender = drifting(terms=tuple(terms.split()))
    told = recommender.explain("u2", "i7", at=now(log))
    check_sums(told, recommender.score("u2", ["i7"], at=now(log))[0])


@pytest.mark.parametrize("strategy", ["none", "frozen"])
def test_without_a_drift_head_the_model_is_taken_apart(
    make_bundle: Callable[[Strategy], Bundle], tmp_path: Path, strategy: Strategy
) -> None:
    save_bundle(tmp_path / "bundle", make_bundle(strategy))
    recommender = Recommender.from_pretrained(tmp_path / "bundle")
    history = [("i1", 0), ("i2", DAY), ("i5", 2 * DAY)]
    told = recommender.explain(history, "i9", at=3 * DAY)
    check_sums(told, recommender.score(history, ["i9"], at=3 * DAY)[0])
    every = [str(item) for item in recommender.catalog.ids.to_pylist()]

    def log_share(events: list[tuple[str, int]]) -> float:
        scores = torch.tensor(recommender.score(events, every, at=3 * DAY))
        return float(scores.log_softmax(0)[every.index("i9")])

    full = log_share(history)
    assert told.unit == "logit"
    assert told.total - told.start == pytest.approx(full + math.log(40), abs=1e-5)
    points = {part.event: part.points for part in told.parts if part.term == "base"}
    for place in range(3):
        less = log_share([event for other, event in enumerate(history) if other != place])
        assert points[place] == pytest.approx(full - less, abs=1e-5)
    assert {part.term for part in told.parts} == {"anyone", "base"}


def test_transitions_and_chain_are_taken_apart_exactly(drifting: Drift, log: Log) -> None:
    recommender, at = drifting(), now(log)
    history = recommender.live.history("u3")
    told = recommender.explain("u3", "i4", at=at)
    state, row = recommender.live.state, recommender.live.find_row("u3")
    head, stream, world = state.head, state.stream, state.counts_at(at)
    recent = state.recent_events(np.array([row]), at)
    weight = head.interest(recent.age_days, recent.steps_back, recent.mask)[0]
    own, onward, latent = head.log_mixture_shares(
        recent, torch.from_numpy(world.transitions.row_sums * world.transitions.decay_at(at))[recent.item]
    )[0].exp()
    target, kappa = int(recommender.catalog.find_rows(["i4"])[0]), float(head.log_kappa.exp())
    by_event = {part.event: part.points for part in told.parts if part.term == "transitions"}
    for place, (item, _) in enumerate(history):
        source = int(recommender.catalog.find_rows([item])[0])
        count = sum(float(table[source, target]) for table in world.transitions.tables) * world.transitions.decay_at(at)
        total = float(world.transitions.row_sums[source]) * world.transitions.decay_at(at)
        chance = (count + kappa * float(stream.text[source, target])) / (total + kappa)
        assert by_event[place] == pytest.approx(float(onward) * float(weight[place]) * chance, rel=1e-4)
    # The chain: what is told of an event is what the belief loses where the event brings nothing.
    assert stream.chain is not None
    counts = torch.from_numpy(world.environment.counts_at(at)).float()
    taken = state_logits(head, stream.chain.emission, counts).softmax(1)[:, target]
    for place in range(len(history)):
        evidence = stream.chain.evidence[recent.item].clone()
        evidence[0, place] = 0.0
        less = stream.chain.chain.belief_at_query(evidence, recent.age_days, recent.mask, stream.chain.powers)
        lost = state.states_at(np.array([row]), at)["chain"][0] - stream.chain.chain.state_probabilities(less)[0]
        part = next(part for part in told.parts if part.term == "chain" and part.event == place)
        assert part.points == pytest.approx(float(latent) * float(lost @ taken), abs=1e-6)
    assert own + onward + latent == pytest.approx(1.0)


def test_it_says_what_happened(drifting: Drift, log: Log) -> None:
    recommender, at = drifting(terms=("interest", "environment", "transitions")), now(log)
    first = at - 15 * DAY
    for name in "abcdefgh":
        recommender.live.observe_many([(name, "i2", first), (name, "i30", first + 60)])
    recommender.live.observe_many([("me", "i1", first - DAY), ("me", "i2", first)])
    told = recommender.explain("me", "i30", at=at)
    titles = [recommender.catalog.label(item) for item in ("i1", "i2")]
    assert told.n_people == 8
    moved = f"because you moved from {titles[0]} to {titles[1]} two weeks ago"
    assert f"{moved} (8 people went on from there to this in the last 90 days)" in told.sentence
    assert [event.item for event in told.events] == ["i1", "i2"]
    assert told.rank_events()[0] == 1
    assert told.events[1].time == first
    nobody = recommender.explain([], "i30", at=at)
    assert "because it" in nobody.sentence
    assert nobody.events == ()


def test_many_are_as_one_by_one(drifting: Drift, log: Log) -> None:
    recommender, at = drifting(), now(log)
    asked, items = ["u1", ["i3"], []], ["i4", FILM, "i2"]
    alone = [recommender.explain(history, item, at=at) for history, item in zip(asked, items, strict=True)]
    assert_same(recommender.batch.explain(asked, items, at=at), alone)


@pytest.mark.parametrize("strategy", ["frozen", "lora"])
@pytest.mark.parametrize("item", ["i4", FILM])
def test_words_add_up_to_the_score_of_the_text(
    load: Callable[..., Recommender], strategy: Strategy, item: object
) -> None:
    pytest.importorskip("captum")
    recommender = load(strategy)
    told = recommender.explain(["i1", "i2"], item, tokens=True)
    text = item["title"] if isinstance(item, dict) else to_text_history(recommender.catalog.items, [item])[0]["text"]
    padding = recommender.catalog.text_space.backbone.tokenizer.pad_token
    n_tokens = len(told.tokens)
    known = bool(recommender.catalog.bundle.model.items.known[4])
    assert known
    without = recommender.score(["i1", "i2"], [{"text": text}, {"text": " ".join([padding] * n_tokens)}])
    assert sum(token.value for token in told.tokens) == pytest.approx(without[0] - without[1], abs=0.02)
    joined = "".join(token.token.removeprefix("##") for token in told.tokens)
    assert joined == text.lower().replace(" ", "")
    assert recommender.explain(["i1", "i2"], item).tokens == ()
