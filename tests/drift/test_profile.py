"""What a portrait says of a log's drift, by hand on small inputs; its words and pictures are there and say the same."""

import dataclasses
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.config.drift import DriftConfig
from llmrec.data.histories import Histories
from llmrec.data.interactions import Interactions
from llmrec.data.splits import split_by_time
from llmrec.drift.head import DriftHead
from llmrec.drift.interest_metrics import (
    half_life_from_curve,
    jensen_shannon_divergence,
    mean_interest_by_period,
    order_by_similarity,
    shuffled_divergence,
    similarity_by_lag,
    transition_lift,
)
from llmrec.drift.profile import DriftProfile, assign_periods, build_drift_profile, label_states, mixture_shares_by_gap
from llmrec.drift.stream import ReplayStream
from llmrec.drift.terms.latent_chain import ChainTables, LatentChain
from llmrec.drift.text_neighbors import center_and_normalize
from llmrec.drift.user_profile import build_user_drift_profile, queries_at, users_with_transition
from llmrec.reports.drift_figures import plot_drift_profile, wrap_title, write_user_figures
from llmrec.reports.drift_text import format_user_drift, render_drift_section
from llmrec.utils.text import truncate
from llmrec.utils.units import SECONDS_PER_DAY

N_USERS, N_ITEMS, N_STATES, YEAR = 40, 24, 4, 365
CONFIG = DriftConfig(n_states=N_STATES, transition_half_lives_days=(30.0,), n_text_neighbors=3)


def wandering_log(memory_days: float, follows_fashion: bool = False) -> Interactions:
    """Items are of kind item % 4. A user stays with a kind for `memory_days` on average; or all follow the year's."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(N_USERS), 40)
    time = np.sort(rng.integers(0, 4 * YEAR, (N_USERS, 40)), axis=1).ravel() * SECONDS_PER_DAY
    kind = np.zeros(len(user), dtype=np.int64)
    for row in range(len(user)):
        stays = row % 40 and rng.random() < np.exp(-(time[row] - time[row - 1]) / SECONDS_PER_DAY / memory_days)
        kind[row] = kind[row - 1] if stays else rng.integers(4)
    kind = time // (YEAR * SECONDS_PER_DAY) % 4 if follows_fashion else kind
    return Interactions.sort(user, kind + 4 * rng.integers(0, N_ITEMS // 4, len(user)), time)


def head_and_stream(log: Interactions) -> tuple[DriftHead, ReplayStream]:
    """A head that has learned nothing, on a chain whose states are the kinds."""
    torch.manual_seed(0)
    kinds = torch.eye(4)[torch.arange(N_ITEMS) % 4] + 0.05 * torch.randn(N_ITEMS, 4)
    vectors = center_and_normalize(kinds)
    chain = LatentChain(torch.nn.functional.normalize(torch.stack([vectors[kind::4].mean(0) for kind in range(4)])))
    chain.requires_grad_(False)
    stream = ReplayStream.from_split(CONFIG, split_by_time(log, N_USERS, N_ITEMS), "strict", vectors)
    return DriftHead(CONFIG, chain).requires_grad_(False), replace(stream, chain=ChainTables.from_chain(chain, vectors))


def label(row: int) -> str:
    return f"kind {row % 4} number {row // 4}"


@pytest.fixture(scope="module")
def drawn() -> DriftProfile:
    return build_drift_profile(*head_and_stream(wandering_log(100.0)), label)


def test_divergence_is_symmetric_and_at_most_a_bit() -> None:
    p, q = np.random.default_rng(0).dirichlet(np.ones(5), (2, 7))
    np.testing.assert_allclose(jensen_shannon_divergence(p, q), jensen_shannon_divergence(q, p))
    assert ((jensen_shannon_divergence(p, q) > 0) & (jensen_shannon_divergence(p, q) < 1)).all()
    np.testing.assert_allclose(jensen_shannon_divergence(p, p), 0, atol=1e-12)


def test_lift_is_one_where_the_origin_does_not_matter() -> None:
    anywhere = np.full((4, 4), 1 / 3) - np.eye(4) / 3
    np.testing.assert_allclose(transition_lift(anywhere, np.array([0.4, 0.3, 0.2, 0.1])), 1 - np.eye(4))


def test_states_alike_are_neighbours() -> None:
    angle = np.array([0.0, 2.0, 0.1, 2.1, 1.0])
    order = order_by_similarity(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    assert order in ([0, 2, 4, 1, 3], [2, 0, 4, 1, 3], [3, 1, 4, 2, 0], [3, 1, 4, 0, 2])


def test_a_log_that_stands_still_differs_by_chance_alone() -> None:
    excess, chance = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        item, period = rng.integers(0, 8, 6000), rng.integers(0, 12, 6000)
        evidence = rng.dirichlet(np.ones(3), 8)
        interest = mean_interest_by_period(item, period, 12, evidence)
        null = shuffled_divergence(item, period, 12, evidence)
        assert null.shape == (40, 11)
        excess.append((jensen_shannon_divergence(interest[:-1], interest[1:]) - null.mean(0)).mean())
        chance.append(null.mean())
    assert abs(np.mean(excess)) < 0.2 * np.mean(chance)


def test_a_fashion_that_changes_does_not() -> None:
    found = build_drift_profile(*head_and_stream(wandering_log(1.0, follows_fashion=True)), label).periods
    assert found is not None
    changes = np.array(found.divergence) > np.array(found.by_chance_high)
    years = [start[:4] for start in found.start]
    assert changes[[year != before for before, year in pairwise(years)]].all()
    assert np.array(found.divergence).max() > 0.5


def test_similarity_falls_as_fast_as_users_forget() -> None:
    evidence = np.eye(4)[np.arange(N_ITEMS) % 4]
    half_lives = []
    for memory in (50.0, 200.0):
        found = similarity_by_lag(Histories.from_interactions(wandering_log(memory), N_USERS), evidence)
        assert found.excess[0] > found.excess[-1]
        half_lives.append(half_life_from_curve(found.lag_days, found.excess))
    assert half_lives[0] is not None
    assert half_lives[1] is not None
    assert 20 < half_lives[0] < 60  # 50 log 2 = 35
    assert 90 < half_lives[1] < 220  # 200 log 2 = 139


def test_what_all_want_at_a_time_is_nobody_s_own_interest() -> None:
    evidence = np.eye(4)[np.arange(N_ITEMS) % 4]
    found = similarity_by_lag(Histories.from_interactions(wandering_log(1.0, follows_fashion=True), N_USERS), evidence)
    assert np.abs(found.excess).max() < 0.2  # those of one year are all alike, 1 - 1/4 beyond a random pair's
    assert abs(np.average(found.excess, weights=found.n_pairs)) < 0.05


def test_half_lives_are_none_where_there_is_nothing_to_halve() -> None:
    lag = np.array([0.0, 10.0])
    assert half_life_from_curve(lag, np.array([0.2, 0.15])) is None
    assert half_life_from_curve(lag, np.array([-0.1, -0.2])) is None
    assert half_life_from_curve(np.zeros(0), np.zeros(0)) is None


def test_periods_are_months_or_longer_and_thin_ones_are_left_out() -> None:
    days = np.arange("2020-01-01", "2020-04-01", dtype="datetime64[D]").astype("datetime64[s]").astype(np.int64)
    period, start, months = assign_periods(days)
    assert (start, months) == (["2020-01", "2020-03"], 1)  # February's 29 events are too few
    assert np.bincount(period[period >= 0]).tolist() == [31, 31]
    decade = np.linspace(days[0], days[0] + 3650 * SECONDS_PER_DAY, 2000).astype(np.int64)
    assert assign_periods(decade)[2] == 3
    assert assign_periods(decade * 4)[2] == 12
    assert assign_periods(days[:5])[1] == []


def test_states_are_named_by_their_own_items_without_repeats() -> None:
    _, stream = head_and_stream(wandering_log(100.0))
    assert stream.chain is not None
    for kind, titles in enumerate(label_states(stream.chain, stream.log.item, label)):
        assert len(set(titles)) == 3
        assert all(title.startswith(f"kind {kind} ") for title in titles)
    doubled = label_states(stream.chain, stream.log.item, lambda row: f" Kind {row % 4}" if row > 4 else "kind 0")
    assert all(len({title.casefold() for title in titles}) == len(titles) for titles in doubled)


def test_shares_are_those_of_the_gate() -> None:
    head, _ = head_and_stream(wandering_log(100.0))
    head.gate.zero_()
    head.gate[0, 1], head.gate[1, 0] = 1.0, -1e9
    shares = mixture_shares_by_gap(head, 5, 100.0, gap_days=[0.0, 3.0])
    assert shares.parts["base"] == pytest.approx([0.5, 0.2])  # 1 against 1 + gap days
    assert shares.parts["transitions"] == pytest.approx([0.5, 0.8])
    assert shares.parts["chain"] == [0.0, 0.0]
    head.gate[0, -1] = 1.0
    assert mixture_shares_by_gap(head, 5, 100.0, gap_days=[0.0]).parts["base"] == pytest.approx(
        [1 / 12], abs=1e-4
    )  # 1 + 10 pairs known


def test_a_portrait_is_json_and_reads_back(drawn: DriftProfile) -> None:
    record = json.loads(json.dumps(dataclasses.asdict(drawn), allow_nan=False))
    assert DriftProfile.from_record(record) == drawn
    assert drawn.states is not None
    assert drawn.periods is not None
    assert sum(drawn.states.share) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(np.array(drawn.periods.interest).sum(1), 1, atol=1e-4)


def test_words_and_pictures_of_a_run(drawn: DriftProfile, tmp_path: Path) -> None:
    figures = plot_drift_profile(drawn)
    text = render_drift_section(drawn)
    assert "halves in" in text
    assert "Jensen-Shannon" in text
    assert "nan" not in text
    for name, figure in figures.items():
        figure.savefig(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000
        assert f"(figures/{name})" in text
    assert set(figures) == {f"drift_{name}.png" for name in ("shares", "moves", "interest", "change", "decay")}
    assert text.count("![") == len(figures)


def test_without_a_chain_there_is_less_to_tell() -> None:
    config = DriftConfig(terms=("interest", "transitions", "gate"))
    _, stream = head_and_stream(wandering_log(100.0))
    head, stream = DriftHead(config).requires_grad_(False), replace(stream, config=config, chain=None)
    found = build_drift_profile(head, stream, label)
    assert DriftProfile.from_record(dataclasses.asdict(found)) == found
    assert list(plot_drift_profile(found)) == ["drift_shares.png"]
    assert "chain's" not in render_drift_section(found)
    user = build_user_drift_profile(head, stream, (3, "u3"), int(stream.log.time[-1]) + 1, label=label)
    assert user.interest is None
    assert "interest in" not in "\n".join(format_user_drift(user))


def test_people_are_counted_once_and_only_lately_and_onward() -> None:
    # 0 goes 7 -> 8, twice; 1 goes 7 -> x -> 8; 2 goes 8 -> 7; 3 has both at once; 4 went long ago.
    user = np.array([4, 4, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    item = np.array([7, 8, 7, 8, 7, 8, 7, 5, 8, 8, 7, 8, 7])
    day = np.array([1, 2, 50, 51, 52, 53, 54, 55, 56, 57, 58, 60, 60])
    log = Interactions.sort(user, item, day * SECONDS_PER_DAY)
    assert users_with_transition(log, 7, 8, 40 * SECONDS_PER_DAY, window=5) == 3
    assert users_with_transition(log, 7, 8, 0, window=5) == 4
    assert users_with_transition(log, 7, 8, 40 * SECONDS_PER_DAY, window=1) == 2
    assert users_with_transition(log, 5, 7, 0, window=5) == 0


def test_a_user_s_course_ends_in_what_is_believed_now_and_knows_no_later_event(tmp_path: Path) -> None:
    head, stream = head_and_stream(wandering_log(100.0))
    at = 2 * YEAR * SECONDS_PER_DAY
    found = build_user_drift_profile(head, stream, (3, "u3"), at, label=label)
    later = replace(stream, log=stream.log.take(stream.log.time < at))
    assert build_user_drift_profile(head, later, (3, "u3"), at, label=label) == found
    assert found.interest is not None
    np.testing.assert_allclose(np.array(found.interest.course).sum(1), 1, atol=1e-3)
    assert found.interest.moments[-1] == at
    last = int(stream.log.item[(stream.log.user == 3) & (stream.log.time < at)][-1])
    assert found.interest.titles[int(np.argmax(found.interest.now))][0].startswith(f"kind {last % 4} ")
    assert all(move.n_people > 0 and move.recent_days == 90 for move in found.moves)
    lines = format_user_drift(found)
    assert lines[0].startswith("user u3: ")
    assert any(line.startswith("because of ") for line in lines)
    written = write_user_figures(found, tmp_path / "pictures")
    assert [path.name for path in written] == ["interest.png", "shares.png"]
    assert all(path.stat().st_size > 5000 for path in written)


def test_one_event_is_a_history_too(tmp_path: Path) -> None:
    head, stream = head_and_stream(wandering_log(100.0))
    first = int(stream.log.time[stream.log.user == 3][0])
    found = build_user_drift_profile(head, stream, (3, "u3"), first + 1, label=label)
    assert len(found.event_times) == 1
    assert "now" in "\n".join(format_user_drift(found))
    assert len(write_user_figures(found, tmp_path)) == 2


def test_histories_at_moments_hold_what_is_before_them() -> None:
    mine = Interactions(np.zeros(3, np.int64), np.array([4, 5, 6]), np.array([10, 20, 30]))
    asked = queries_at(mine, np.array([10, 11, 30, 31]))
    assert (asked.end - asked.start).tolist() == [0, 1, 2, 3]


def test_long_titles_are_cut_where_words_end() -> None:
    assert truncate("A serum for the night, 2 ounces", 20) == "A serum for the…"
    assert wrap_title(["one", "two", "three"]) == "one\ntwo"
