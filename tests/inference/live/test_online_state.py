"""A live state is what the events so far make of it, however they came in, and survives a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from torch import Tensor

from llmrec.config.drift import MAX_HISTORY, DriftConfig
from llmrec.data.histories import Histories, Queries
from llmrec.data.interactions import Interactions
from llmrec.data.times.timestamps import END_OF_TIME
from llmrec.drift.head import DriftHead
from llmrec.drift.mixture import build_recent_events
from llmrec.drift.scorers import DriftScorer
from llmrec.drift.stream import ReplayStream
from llmrec.drift.terms import term_inputs
from llmrec.drift.terms.environment import Environment
from llmrec.drift.terms.latent_chain import ChainTables, LatentChain
from llmrec.drift.terms.pair_counts import Transitions
from llmrec.drift.text_neighbors import center_and_normalize, find_text_neighbors
from llmrec.errors import DataError
from llmrec.inference.live.buffered_counts import MAX_PENDING
from llmrec.inference.live.online_state import OnlineState
from llmrec.inference.live.saved_state import load_state, save_state
from llmrec.inference.live.state_file import StateError
from llmrec.utils.units import SECONDS_PER_DAY

N_USERS, N_ITEMS, N_STATES = 4, 9, 5
CONFIG = DriftConfig(half_lives_days=(7.0, 100.0), n_text_neighbors=3, window=3)
NOW = 500 * SECONDS_PER_DAY
Event = tuple[int, int, int]  # user, item, seconds
Events = st.lists(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 900).map(lambda h: h * 43_200)),
    max_size=30,
)


def parts(seed: int = 0) -> tuple[DriftHead, ReplayStream]:
    torch.manual_seed(seed)
    vectors = center_and_normalize(torch.randn(N_ITEMS, 6))
    chain = LatentChain(torch.nn.functional.normalize(torch.randn(N_STATES, 6), dim=1)).requires_grad_(False)
    head = DriftHead(CONFIG, chain)
    for weight in head.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    chain.gain.fill_(-2.0)  # an event renews little, so that the old ones still tell
    nothing = np.zeros(0, dtype=np.int64)
    log, near = Interactions(nothing, nothing, nothing), find_text_neighbors(vectors, 3)
    stream = ReplayStream(CONFIG, log, "strict", N_USERS, 0, near, 30.0, ChainTables.from_chain(chain, vectors))
    return head.requires_grad_(False), stream


HEAD, STREAM = parts()


def interest_at(state: OnlineState, user: int) -> Tensor:
    return state.states_at(np.array([user]), NOW)["chain"][0]


def fed(events: list[Event], state: OnlineState | None = None) -> OnlineState:
    state = OnlineState(HEAD, STREAM) if state is None else state
    for event in events:
        state.observe(*event)
    return state


def random_events(n: int, in_order: bool = True, seed: int = 0) -> list[Event]:
    rng = np.random.default_rng(seed)
    time = rng.integers(0, 998, n) * (SECONDS_PER_DAY // 2)  # a whole number of ticks
    columns = rng.integers(0, N_USERS, n), rng.integers(0, N_ITEMS, n), np.sort(time) if in_order else time
    return [(int(user), int(item), int(time)) for user, item, time in zip(*columns, strict=True)]


def columns(events: list[Event]) -> np.ndarray:
    return np.array(events, dtype=np.int64).reshape(-1, 3).T


def by_hand(events: list[Event], at: int = NOW) -> Queries:
    """Every user's history from the whole log, sorted by time."""
    histories = Histories.from_interactions(Interactions.sort(*columns(events)), N_USERS)
    start, end = histories.offset[:-1], histories.offset[1:]
    return Queries(histories, np.arange(N_USERS), np.full(N_USERS, at), np.zeros(N_USERS, dtype=int), start, end)


def pairs(transitions: Transitions) -> np.ndarray:
    return sum((table.toarray() for table in transitions.tables), np.zeros((N_ITEMS, N_ITEMS)))


def assert_same(one: OnlineState, other: OnlineState, exactly: bool = False) -> None:
    """In everything that moves. Sums may be in another order unless exactly."""
    for user in range(one.n_users):
        assert torch.equal(interest_at(one, user), interest_at(other, user))
    np.testing.assert_array_equal(one.last.item[: one.n_users], other.last.item[: one.n_users])
    np.testing.assert_array_equal(one.last.time[: one.n_users], other.last.time[: one.n_users])
    first, second = one.counts_at(NOW), other.counts_at(NOW)
    close = np.testing.assert_array_equal if exactly else np.testing.assert_allclose
    close(first.environment.counts_at(NOW), second.environment.counts_at(NOW))
    faded = [pairs(world.transitions) * world.transitions.decay_at(NOW) for world in (first, second)]
    close(*faded)
    close(first.transitions.row_sums, second.transitions.row_sums * faded_by(second, first))


def faded_by(world: object, reference: object) -> float:
    """How sums of one state stand to those of the other, which may be as of another time."""
    fading = [side.transitions.decay_at(NOW) for side in (world, reference)]  # type: ignore[attr-defined]
    return fading[0] / fading[1]


@settings(deadline=None, max_examples=60)
@given(Events, st.lists(st.integers(0, 30), max_size=5))
def test_whenever_it_is_asked_the_state_is_that_of_the_events(events: list[Event], asked: list[int]) -> None:
    state = OnlineState(HEAD, STREAM)
    for place, event in enumerate(events):
        if place in asked:
            state.counts_at(NOW)  # counts what waits
        state.observe(*event)
    one_by_one = OnlineState(HEAD, STREAM)
    for event in events:
        fed([event], one_by_one).counts_at(NOW)
    assert_same(state, fed(events))
    assert_same(state, one_by_one)


@settings(deadline=None, max_examples=60)
@given(Events, st.randoms())
def test_users_do_not_disturb_each_other(events: list[Event], random: object) -> None:
    """Any interleaving that keeps each user's own order gives the same."""
    users = [event[0] for event in events]
    random.shuffle(users)  # type: ignore[attr-defined]
    own = {user: iter([event for event in events if event[0] == user]) for user in set(users)}
    assert_same(fed([next(own[user]) for user in users]), fed(events))


@settings(deadline=None, max_examples=60)
@given(Events)
def test_counts_are_those_of_one_batch(events: list[Event]) -> None:
    newest: dict[int, int] = {}
    in_time = []  # what is not late: all that makes pairs
    for user, item, time in events:
        if time >= newest.get(user, 0):
            newest[user] = time
            in_time.append((user, item, time))
    environment = Environment(N_ITEMS, CONFIG.half_lives_days)
    transitions = STREAM.new_counts().transitions
    environment.observe(term_inputs.Events(*columns(events)))
    transitions.observe(term_inputs.Events(*columns(in_time)))
    world = fed(events).counts_at(NOW)
    np.testing.assert_allclose(world.environment.counts_at(NOW), environment.counts_at(NOW))
    np.testing.assert_allclose(
        pairs(world.transitions) * world.transitions.decay_at(NOW), pairs(transitions) * transitions.decay_at(NOW)
    )


@settings(deadline=None, max_examples=60)
@given(Events)
def test_last_events_are_those_of_the_sorted_log(events: list[Event]) -> None:
    state = fed(events)
    for live, expected in zip(
        state.recent_events(np.arange(N_USERS), NOW), build_recent_events(by_hand(events)), strict=True
    ):
        assert torch.equal(live, expected)


def test_only_the_last_fifty_are_kept() -> None:
    events = random_events(400, in_order=False)
    recent, expected = fed(events).recent_events(np.arange(N_USERS), NOW), build_recent_events(by_hand(events))
    assert recent.item.shape == (N_USERS, MAX_HISTORY)
    assert all(torch.equal(live, other) for live, other in zip(recent, expected, strict=True))


def test_interest_is_the_chains_up_to_fifty_events_and_remembers_more() -> None:
    assert STREAM.chain is not None
    for n, same in ((100, True), (400, False)):
        events = random_events(n)
        state, expected = fed(events), STREAM.chain.interest_from_history(build_recent_events(by_hand(events)))
        live = torch.stack([interest_at(state, user) for user in range(N_USERS)])
        assert torch.allclose(live, expected, atol=1e-6) is same
        torch.testing.assert_close(live.sum(1), torch.ones(N_USERS))


def test_a_newcomer_has_a_newcomers_interest() -> None:
    chain = HEAD.chain
    assert chain is not None
    torch.testing.assert_close(
        interest_at(OnlineState(HEAD, STREAM), 1), chain.state_probabilities(chain.initial_belief(1))[0]
    )


def test_a_late_event_is_learnt_where_the_belief_stands() -> None:
    late = fed([(0, 1, 10 * SECONDS_PER_DAY), (0, 2, 5 * SECONDS_PER_DAY), (0, 3, 20 * SECONDS_PER_DAY)])
    moved = fed([(0, 1, 10 * SECONDS_PER_DAY), (0, 2, 10 * SECONDS_PER_DAY), (0, 3, 20 * SECONDS_PER_DAY)])
    torch.testing.assert_close(interest_at(late, 0), interest_at(moved, 0))
    assert late.recent_events(np.array([0]), NOW).item.tolist() == [[2, 1, 3]]
    transitions = late.counts_at(NOW).transitions
    assert pairs(transitions)[1, 3] > 0
    assert not pairs(transitions)[2].any()
    assert late.counts_at(NOW).environment.counts_at(NOW)[:, 2].all()


def test_an_event_given_twice_counts_twice() -> None:
    once, twice = fed([(0, 1, SECONDS_PER_DAY)]), fed([(0, 1, SECONDS_PER_DAY), (0, 1, SECONDS_PER_DAY)])
    counts = [state.counts_at(NOW).environment.counts_at(NOW) for state in (once, twice)]
    np.testing.assert_allclose(counts[1], 2 * counts[0])
    assert twice.recent_events(np.array([0]), NOW).item.tolist() == [[1, 1]]


class Base:
    """Some scores or other."""

    def score(self, queries: Queries) -> Tensor:
        return torch.randn(len(queries), N_ITEMS, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("left_out", [None, "chain", "transitions", "environment", "interest", "gate"])
def test_scores_are_the_replays_at_the_start_of_a_day(left_out: str | None) -> None:
    config = replace(CONFIG, terms=tuple(term for term in CONFIG.terms if term != left_out))
    head = DriftHead(config, HEAD.chain).requires_grad_(False)
    head.load_state_dict(HEAD.state_dict())
    events = random_events(120)
    stream = replace(STREAM, config=config, log=Interactions(*columns(events)))
    state, queries = fed(events, OnlineState(head, stream)), by_hand(events)
    scores = state.score(Base().score(queries), np.arange(N_USERS), NOW)
    torch.testing.assert_close(scores, DriftScorer(head, Base(), stream).score(queries), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(N_USERS))


def test_what_happened_this_second_is_served() -> None:
    state = fed([(0, 1, NOW), (1, 2, NOW + 60)])
    users, base = np.array([0, 2]), torch.zeros(2, N_ITEMS)
    before = state.score(base, users, NOW)
    state.observe(2, 3, NOW)
    after = state.score(base, users, NOW)
    assert torch.isfinite(after).all()
    assert not torch.equal(before[1], after[1])
    with pytest.raises(DataError, match=f"user 1 is queried at {NOW}, and has an event at {NOW + 60}; ask for a t"):
        state.score(base, np.array([0, 1]), NOW)


@settings(deadline=None, max_examples=40)
@given(Events, Events)
def test_many_events_at_once_are_as_one_by_one(before: list[Event], together: list[Event]) -> None:
    state, expected = fed(before), fed([*before, *together])
    state.observe_many(*columns(together))
    for user in range(N_USERS):
        torch.testing.assert_close(interest_at(state, user), interest_at(expected, user))
        assert [rows.tolist() for rows in state.last.make_queries(np.array([user]), NOW).list_seen_pairs()] == [
            rows.tolist() for rows in expected.last.make_queries(np.array([user]), NOW).list_seen_pairs()
        ]
    users, base = np.arange(N_USERS), torch.zeros(N_USERS, N_ITEMS)
    torch.testing.assert_close(state.score(base, users, NOW), expected.score(base, users, NOW), atol=1e-4, rtol=1e-4)


def test_many_events_of_many_users() -> None:
    events = random_events(3000, in_order=False)
    state = OnlineState(HEAD, STREAM)
    state.observe_many(*columns(events))
    expected = fed(events)
    for user in range(N_USERS):
        torch.testing.assert_close(interest_at(state, user), interest_at(expected, user))
    np.testing.assert_array_equal(state.last.time, expected.last.time)
    with pytest.raises(DataError, match=f"item {N_ITEMS} is not within"):
        state.observe_many(np.array([0, 0]), np.array([0, N_ITEMS]), np.array([0, 0]))


def test_a_forgotten_user_is_new_again_and_counts_no_more() -> None:
    events = random_events(3000)  # which fill the last events of everyone
    others = [event for event in events if event[0] != 2]
    item, time = columns([event for event in events if event[0] == 2])[1:]
    state, without = fed(events), fed(others)
    state.forget(2, (item[:-MAX_HISTORY], time[:-MAX_HISTORY]))
    assert not state.recent_events(np.array([2]), NOW).mask.any()
    torch.testing.assert_close(interest_at(state, 2), interest_at(OnlineState(HEAD, STREAM), 2))
    for user in (0, 1, 3):
        torch.testing.assert_close(interest_at(state, user), interest_at(without, user))
    found, expected = state.counts_at(NOW), without.counts_at(NOW)
    np.testing.assert_allclose(found.environment.counts_at(NOW), expected.environment.counts_at(NOW), rtol=1e-9)
    scale = faded_by(expected, found)
    np.testing.assert_allclose(pairs(found.transitions), pairs(expected.transitions) * scale, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.transitions.row_sums, expected.transitions.row_sums * scale, rtol=1e-9)
    before = pairs(found.transitions)
    state.observe(2, 3, NOW)  # it is paired with nothing of before
    np.testing.assert_array_equal(pairs(state.counts_at(NOW).transitions), before)


def test_what_only_a_forgotten_user_did_leaves_nothing() -> None:
    state = fed([(0, 1, 5), (0, 2, 6), (1, 2, 7), (2, 7, 8), (2, 8, 9), (2, 2, 10), (0, 2, 11 * SECONDS_PER_DAY)])
    state.forget(2)
    world = state.counts_at(NOW)
    assert not world.environment.counts_at(NOW)[:, [7, 8]].any()
    assert not pairs(world.transitions)[[7, 8]].any()
    assert not pairs(world.transitions)[:, [7, 8]].any()
    assert sum(table.nnz for table in world.transitions.tables) == 2  # 1 -> 2 and back
    assert not world.transitions.row_sums[[7, 8]].any()


def test_items_can_be_added_while_it_serves(tmp_path: Path) -> None:
    torch.manual_seed(5)
    vectors = center_and_normalize(torch.randn(N_ITEMS + 2, 6))
    assert HEAD.chain is not None

    def over(n_items: int) -> ReplayStream:
        tables = ChainTables.from_chain(HEAD.chain, vectors[:n_items])
        return replace(STREAM, text=find_text_neighbors(vectors[:n_items], 3), chain=tables)

    events, late = random_events(50), [(0, N_ITEMS, NOW), (0, N_ITEMS + 1, NOW + 5), (1, 2, NOW)]
    state = fed(events, OnlineState(HEAD, over(N_ITEMS)))
    save_state(state, tmp_path / "before")
    state.extend(over(N_ITEMS + 2))
    expected = fed([*events, *late], OnlineState(HEAD, over(N_ITEMS + 2)))
    restored = load_state(tmp_path / "before", HEAD, over(N_ITEMS + 2))
    base, users = torch.zeros(N_USERS, N_ITEMS + 2), np.arange(N_USERS)
    for grown in (fed(late, state), fed(late, restored)):
        found, same = (one.score(base, users, NOW + 9) for one in (grown, expected))
        torch.testing.assert_close(found, same, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="cannot take the place"):
        state.extend(over(N_ITEMS))


def test_counts_are_kept_without_users() -> None:
    events = random_events(200)
    state, other = fed(events), OnlineState(HEAD, replace(STREAM, n_users=0))
    sums = state.counts_at(NOW).export_counts()
    assert not any("last" in name for name in sums)
    other.restore_counts(sums)
    one, again = state.counts_at(NOW), other.counts_at(NOW)
    np.testing.assert_allclose(again.environment.counts_at(NOW), one.environment.counts_at(NOW))
    faded = [pairs(world.transitions) * world.transitions.decay_at(NOW) for world in (one, again)]
    np.testing.assert_allclose(faded[1], faded[0], rtol=1e-6)
    with pytest.raises(ValueError, match="do not fit"):
        OnlineState(HEAD, replace(STREAM, config=replace(CONFIG, half_lives_days=(1.0, 2.0, 3.0)))).restore_counts(sums)


def test_new_users_get_rows() -> None:
    state = fed(random_events(40))
    for _ in range(10):
        state.add_users(1)
    state.observe(N_USERS + 9, 3, NOW)
    state.observe(N_USERS + 9, 4, NOW)
    assert state.n_users == N_USERS + 10
    assert state.recent_events(np.array([N_USERS + 9, 0]), NOW).item[0, :2].tolist() == [3, 4]
    assert pairs(state.counts_at(NOW).transitions)[3, 4] > 0
    assert not torch.allclose(interest_at(state, N_USERS + 9), interest_at(state, N_USERS + 8))


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ((N_USERS, 0, 0), f"user {N_USERS} is not within 0 .. {N_USERS - 1}; make place for new users with add_users"),
        ((-1, 0, 0), "user -1 is not within"),
        ((0, N_ITEMS, 0), f"item {N_ITEMS} is not within 0 .. {N_ITEMS - 1}; give a row of the catalog"),
        ((0, 0, -5), "time -5 is not within"),
        ((0, 0, END_OF_TIME), "give seconds since 1970"),
    ],
)
def test_impossible_events_change_nothing(event: Event, message: str) -> None:
    state, events = OnlineState(HEAD, STREAM), random_events(20)
    with pytest.raises(DataError, match=message):
        fed([*events, event], state)
    assert_same(state, fed(events), exactly=True)


@pytest.mark.parametrize("in_order", [True, False])
def test_to_the_last_bit_the_state_is_what_its_events_make_of_it(tmp_path: Path, in_order: bool) -> None:
    events = random_events(2 * MAX_PENDING + 100, in_order)
    asked, undisturbed = OnlineState(HEAD, STREAM), fed(events)
    for place, event in enumerate(events):
        asked.observe(*event)
        if place % 97 == 0:  # asked, saved and restored at odd moments
            asked.counts_at(NOW)
        if place in (50, MAX_PENDING + 7):
            save_state(asked, tmp_path / "live")
            asked = load_state(tmp_path / "live", HEAD, STREAM)
    assert_same(asked, undisturbed, exactly=True)
    save_state(asked, tmp_path / "asked")
    save_state(undisturbed, tmp_path / "undisturbed")
    assert (tmp_path / "asked").read_bytes() == (tmp_path / "undisturbed").read_bytes()


def test_counting_on_a_copy_is_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far apart in time too, where sums move to a later reference."""
    events = [(user, item, time * 400) for user, item, time in random_events(300)]
    at, half, batch = 400 * NOW, len(events) // 2 + 1, "llmrec.inference.live.buffered_counts.MAX_PENDING"
    monkeypatch.setattr(batch, half)
    waiting, other = fed(events).counts_at(at), fed(events[:half])
    monkeypatch.setattr(batch, len(events) - half)
    counted = fed(events[half:], other).counts_at(at)
    assert not len(other.counted.pending_events())
    np.testing.assert_array_equal(waiting.environment.counts_at(at), counted.environment.counts_at(at))
    np.testing.assert_array_equal(pairs(waiting.transitions), pairs(counted.transitions))
    np.testing.assert_array_equal(waiting.transitions.row_sums, counted.transitions.row_sums)


@settings(deadline=None, max_examples=25)
@given(Events, Events)
def test_a_restored_state_goes_on_exactly(tmp_path_factory: object, before: list[Event], after: list[Event]) -> None:
    path = tmp_path_factory.mktemp("state") / "live"  # type: ignore[attr-defined]
    state = fed(before)
    state.add_users(2)
    save_state(state, path)
    restored = load_state(path, HEAD, STREAM)
    after = [*after, (N_USERS + 1, 0, SECONDS_PER_DAY)]
    assert_same(fed(after, restored), fed(after, state), exactly=True)
    base, users = torch.zeros(N_USERS + 2, N_ITEMS), np.arange(N_USERS + 2)
    assert torch.equal(restored.score(base, users, NOW), state.score(base, users, NOW))
    assert [file.name for file in path.parent.iterdir()] == ["live"]


def test_a_state_without_a_chain_is_restored_too(tmp_path: Path) -> None:
    config = replace(CONFIG, terms=("environment", "transitions"))
    head, stream = DriftHead(config), replace(STREAM, config=config, chain=None)
    state = fed(random_events(50), OnlineState(head, stream))
    save_state(state, tmp_path / "live")
    restored = load_state(tmp_path / "live", head, stream)
    np.testing.assert_array_equal(*(pairs(each.counts_at(NOW).transitions) for each in (state, restored)))
    assert not restored.states_at(np.array([0]), NOW)
    with pytest.raises(StateError, match="made for another head or catalog, chain"):
        load_state(tmp_path / "live", HEAD, STREAM)


def test_another_chain_refuses_the_state(tmp_path: Path) -> None:
    save_state(fed(random_events(5)), tmp_path / "live")
    with pytest.raises(StateError, match="chain"):
        load_state(tmp_path / "live", *parts(seed=1))
    with pytest.raises(StateError, match="transitions"):
        load_state(tmp_path / "live", HEAD, replace(STREAM, transition_half_life_days=7.0))


def test_damaged_and_foreign_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "live"
    save_state(fed(random_events(20)), path)
    whole = path.read_bytes()
    for size in (0, 5, 200, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(StateError, match="no live state that can be read"):
            load_state(path, HEAD, STREAM)
    path.write_bytes(b"item,time\n1,2\n")
    with pytest.raises(StateError):
        load_state(path, HEAD, STREAM)
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(StateError, match="restore a copy, or start without it"):
        load_state(path, HEAD, STREAM)
    with pytest.raises(StateError):
        load_state(tmp_path / "missing", HEAD, STREAM)


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = tmp_path / "live", fed(random_events(20))
    save_state(state, path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_state(fed(random_events(20, seed=1), state), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["live"]
