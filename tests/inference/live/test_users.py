"""Users who are followed live are answered as their histories are, in the light of what everybody does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.config.backbone import Strategy
from llmrec.config.data import DataConfig
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.data.splits import split_by_time
from llmrec.drift.scorers import DriftScorer
from llmrec.errors import DataError
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.inference.live.state_file import StateError
from llmrec.inference.log_users import LogUsers
from llmrec.inference.queries import parse_histories
from llmrec.recommender import Recommender
from tests.closeness import assert_same

DAY = 86_400
NEW = {"item_id": "new", "title": "space robot drama", "released": None}
Load = Callable[..., Recommender]


@pytest.fixture
def load_drifting(
    make_bundle: Callable[[Strategy], Bundle], add_drift: Callable[..., Bundle], tmp_path: Path, tiny_bert: Path
) -> Load:
    """load_drifting(strategy, source, **settings): a recommender with a drift head, trained on the log at `source`."""

    def load(strategy: Strategy = "frozen", source: str = "nowhere", **settings: object) -> Recommender:
        bundle = add_drift(make_bundle(strategy), **settings)
        bundle = replace(bundle, config=replace(bundle.config, data=DataConfig(source=source)))
        if source != "nowhere":
            bundle = replace(bundle, facts=asdict(load_log(bundle.config.data).facts))
        save_bundle(tmp_path / "drifting", bundle)
        return Recommender.from_pretrained(tmp_path / "drifting", backbone=str(tiny_bert))

    return load


def events_of(log: Log, user: str) -> list[tuple[str, int]]:
    mine = log.interactions.take(log.interactions.user == log.find_user_row(user))
    return [(str(log.catalog.ids[item]), int(time)) for item, time in zip(mine.item, mine.time, strict=True)]


def after(log: Log) -> int:
    """A midnight after everything."""
    return (int(log.interactions.time[-1]) // DAY + 3) * DAY


def ids(recommender: Recommender) -> list[str]:
    return [str(item) for item in recommender.catalog.ids.to_pylist()]


def test_answers_are_the_replays(load_drifting: Load, log: Log) -> None:
    recommender, at = load_drifting(), after(log)
    recommender.live.replay_log(log)
    bundle, drift = recommender.catalog.bundle, recommender.catalog.drift
    assert drift is not None
    split = split_by_time(log.interactions, log.n_users, log.n_items)
    stream = drift.build_stream(bundle.config.drift, split, "strict")
    users = LogUsers.from_log(log, recommender.catalog.items, at)
    expected = DriftScorer(drift.head, recommender.catalog.scorer, stream).score(users.queries)
    for place in range(0, len(users), 7):
        found = recommender.score(events_of(log, users.user_id(place)), ids(recommender), at=at)
        assert found == pytest.approx(expected[place].tolist(), abs=1e-4)
    assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-5)  # log chances


@pytest.mark.parametrize("strategy", ["none", "lora"])
def test_a_live_user_is_answered_as_the_same_events(load_drifting: Load, log: Log, strategy: Strategy) -> None:
    recommender, at = load_drifting(strategy), after(log)
    recommender.live.replay_log(log)
    users = [str(user) for user in log.user_ids.to_pylist()[:4]]
    histories = [events_of(log, user) for user in users]
    together = recommender.batch.score([*users, *histories], [ids(recommender)] * 8, at=at)
    for followed, given in zip(together[:4], together[4:], strict=True):
        assert followed == pytest.approx(given, abs=1e-5)
    for user, history in zip(users, histories, strict=True):
        assert recommender.live.history(user) == history
        for moment in (at, None):
            mine, same = recommender.recommend(user, k=5, at=moment), recommender.recommend(history, k=5, at=moment)
            assert [item.item for item in mine] == [item.item for item in same]
            assert [item.score for item in mine] == pytest.approx([item.score for item in same], abs=1e-5)


def test_recommendations_are_what_scores_best(load_drifting: Load, log: Log) -> None:
    recommender, history = load_drifting(), events_of(log, "u1")
    recommender.live.replay_log(log)
    seen = {item for item, _ in history}
    others = [item for item in ids(recommender) if item not in seen]
    scores = dict(zip(others, recommender.score(history, others), strict=True))
    found = recommender.recommend(history, k=6)
    assert [item.item for item in found] == sorted(others, key=lambda item: -scores[item])[:6]
    assert [item.score for item in found] == pytest.approx([scores[item.item] for item in found])
    assert len(recommender.recommend(history, k=99)) == len(others)
    assert len(recommender.recommend(history, k=99, include_seen=True)) == len(ids(recommender))


@pytest.mark.parametrize("drifts", [True, False])
def test_what_was_observed_changes_the_next_answer(load_drifting: Load, load: Load, log: Log, drifts: bool) -> None:
    recommender = load_drifting() if drifts else load()
    at = after(log)
    recommender.live.observe("newcomer", "i1", at)
    first = recommender.recommend("newcomer", k=40, at=at)
    assert "i1" not in {item.item for item in first}
    recommender.live.observe_many([("newcomer", "i2", at), ("other", "i3", "2030-01-01")])
    second = recommender.recommend("newcomer", k=40, at=at + 1)
    assert {item.item for item in second} == {item.item for item in first} - {"i2"}
    assert [item.score for item in second] != [item.score for item in first][: len(second)]
    assert recommender.live.history("newcomer") == [("i1", at), ("i2", at)]
    same = recommender.score([("i1", at), ("i2", at)], ["i5"], at=at + 1)
    assert recommender.score("newcomer", ["i5"], at=at + 1) == pytest.approx(same, abs=1e-5)


def test_impossible_events_change_nothing(load_drifting: Load, log: Log) -> None:
    recommender = load_drifting()
    recommender.live.observe("a", "i1", 10)
    for events in ([("b", "i1", 5), ("c", "nope", 5)], [("b", "i1", 5), ("c", "i1", -5)]):
        with pytest.raises(DataError):
            recommender.live.observe_many(events)
    assert list(recommender.live.users) == ["a"]
    for unknown in (lambda: recommender.recommend("b"), lambda: recommender.live.history("b")):
        with pytest.raises(DataError, match="unknown user 'b'"):
            unknown()
    with pytest.raises(DataError, match="ask for a time from then on"):
        recommender.recommend("a", at=9)


def test_everything_ever_touched_is_seen(load_drifting: Load) -> None:
    recommender = load_drifting()
    events = [("u", item, 100 * day) for day, item in enumerate(ids(recommender)[:3] + ids(recommender)[4:9] * 11)]
    recommender.live.observe_many(events)
    assert len(recommender.live.history("u")) == 50  # the first three are beyond them
    assert not {item for _, item, _ in events} & {found.item for found in recommender.recommend("u", k=40)}


@pytest.mark.parametrize("strategy", ["frozen", "lora"])
def test_new_items_are_known_to_every_term(load_drifting: Load, log: Log, strategy: Strategy) -> None:
    recommender, at, history = load_drifting(strategy), after(log), events_of(log, "u3")
    recommender.live.replay_log(log)
    alone = recommender.score(history, [{"title": NEW["title"]}, {"text": NEW["title"]}], at=at)
    told = recommender.score([*history, ({"title": NEW["title"]}, at - 1)], ["i5"], at=at)
    recommender.catalog.add([NEW])
    assert recommender.score(history, ["new"], at=at) * 2 == pytest.approx(alone, abs=1e-5)
    assert recommender.score([*history, ("new", at - 1)], ["i5"], at=at) == pytest.approx(
        told, abs=0.05
    )  # one item more
    assert sum(np.exp(recommender.score(history, ids(recommender), at=at))) == pytest.approx(1.0, abs=1e-5)
    before = recommender.score(history, ["new"], at=at)
    recommender.live.observe_many([("u3", "new", at), ("x", "i5", at), ("x", "new", at + 60)])
    assert recommender.score(history, ["new"], at=at + 120)[0] > before[0]  # it is wanted now
    assert "new" in {item.item for item in recommender.recommend("u7", k=40, at=at + 120)}
    assert "new" not in {item.item for item in recommender.recommend("u3", k=40, at=at + 120)}


def test_added_items_are_as_if_they_had_always_been_there(load_drifting: Load, log: Log, tmp_path: Path) -> None:
    recommender, at = load_drifting(), after(log)
    recommender.live.replay_log(log)
    recommender.catalog.add([NEW])
    recommender.catalog.add([NEW | {"item_id": "newer", "title": "river horror"}])
    grown = recommender.live.state.stream
    recommender.save_pretrained(tmp_path / "grown")
    again = Recommender.from_pretrained(tmp_path / "grown")
    again.live.replay_log(log)
    fresh = again.live.state.stream
    torch.testing.assert_close(torch.from_numpy(grown.text.toarray()), torch.from_numpy(fresh.text.toarray()))
    every = ids(recommender)
    assert again.score("u1", every, at=at) == pytest.approx(recommender.score("u1", every, at=at), abs=1e-5)


def test_removed_items_are_recommended_no_more(load_drifting: Load, log: Log, tmp_path: Path) -> None:
    recommender = load_drifting()
    gone = [item.item for item in recommender.recommend([], k=3)]
    scores = recommender.score(gone, gone)
    recommender.catalog.remove(gone)
    assert not set(gone) & {item.item for item in recommender.recommend([], k=40)}
    assert not set(gone) & {item.item for item in recommender.similar_items("i9", k=40)}
    assert recommender.score(gone, gone) == scores  # in histories, and as they are
    recommender.save_pretrained(tmp_path / "fewer")
    again = Recommender.from_pretrained(tmp_path / "fewer")
    assert_same(again.recommend([], k=40), recommender.recommend([], k=40))
    again.catalog.restore(gone[:1])
    assert [item.item for item in again.recommend([], k=1)] == gone[:1]
    with pytest.raises(DataError, match="unknown item"):
        recommender.catalog.remove(["i9", "nope"])
    assert "i9" in {item.item for item in recommender.recommend([], k=40)}


def test_a_state_is_saved_with_its_users(load_drifting: Load, log: Log, tmp_path: Path) -> None:
    recommender, at = load_drifting(), after(log)
    recommender.live.replay_log(log)
    recommender.live.observe("ünew", "i1", at)
    recommender.live.forget("u2")
    recommender.live.save(tmp_path / "state")
    again = load_drifting()
    again.catalog.add([NEW])  # since
    again.live.load(tmp_path / "state")
    recommender.catalog.add([NEW])
    assert again.live.users == recommender.live.users
    for user in ("u1", "ünew"):
        assert_same(again.recommend(user, k=5, at=at + 9), recommender.recommend(user, k=5, at=at + 9))
    with pytest.raises(DataError, match="unknown user 'u2'"):
        again.recommend("u2")
    again.live.observe("u2", "i3", at)
    assert again.live.history("u2") == [("i3", at)]
    again.live.save(tmp_path / "more")
    with pytest.raises(StateError, match=r"knows \d+ items, the catalog \d+; add those missing"):
        load_drifting().live.load(tmp_path / "more")


def test_a_state_of_other_items_is_refused(load_drifting: Load, load: Load, log: Log, tmp_path: Path) -> None:
    one, other = load_drifting(), load_drifting()
    one.catalog.add([NEW])
    one.live.save(tmp_path / "state")
    other.catalog.add([NEW | {"item_id": "else"}])
    with pytest.raises(StateError, match="made for other items"):
        other.live.load(tmp_path / "state")
    (tmp_path / "state").write_bytes(b"nothing")
    with pytest.raises(StateError, match="no live state that can be read"):
        one.live.load(tmp_path / "state")


def test_it_begins_with_the_log_where_that_can_be_read(
    load_drifting: Load, log: Log, log_folder: str, tmp_path: Path, tiny_bert: Path
) -> None:
    recommender, at = load_drifting(source=log_folder), after(log)
    assert len(recommender.live.users) == log.n_users
    assert recommender.live.origin == recommender.training_log.read().facts.source
    expected = recommender.score(events_of(log, "u1"), ids(recommender), at=at)
    recommender.live.replay_log(before=at - 500 * DAY)  # and not further
    assert recommender.score("u1", ids(recommender), at=at) != pytest.approx(expected, abs=1e-3)
    recommender.live.replay_log()
    assert recommender.score("u1", ids(recommender), at=at) == pytest.approx(expected, abs=1e-5)


def test_a_bundle_without_its_log_knows_the_day_and_no_user(
    load_drifting: Load, log: Log, tmp_path: Path, tiny_bert: Path
) -> None:
    recommender, at, history = load_drifting(), after(log), events_of(log, "u1")
    assert recommender.live.origin == "nothing"
    unaware = recommender.score(history, ids(recommender), at=at)
    recommender.live.replay_log(log)
    expected = recommender.score(history, ids(recommender), at=at)
    assert unaware != pytest.approx(expected, abs=1e-3)
    drift = recommender.catalog.bundle.drift
    assert drift is not None
    recommender.catalog.drift = replace(drift, counts=recommender.live.state.counts_at(0).export_counts())
    recommender.save_pretrained(tmp_path / "sent")
    sent = Recommender.from_pretrained(tmp_path / "sent")
    assert (sent.live.origin, sent.live.users) == ("the counts in the bundle", {})
    assert sent.score(history, ids(recommender), at=at) == pytest.approx(expected, abs=1e-4)
    sent.live.observe("u1", "i3", at)
    recommender.live.observe("someone", "i3", at)
    found, same = (one.score([*history, ("i3", at)], ids(one), at=at + DAY) for one in (sent, recommender))
    assert found == pytest.approx(same, abs=1e-4)
    assert not any("last" in name or "user" in name for name in drift.counts or sent.catalog.bundle.drift.counts)


def test_questions_can_be_asked_in_batches(load_drifting: Load, log: Log) -> None:
    recommender, at = load_drifting(), after(log)
    recommender.live.replay_log(log)
    asked = ["u1", [], ["i3", {"title": "space robot"}], events_of(log, "u5")]
    for together, history in zip(recommender.batch.recommend(asked, k=4, at=at), asked, strict=True):
        alone = recommender.recommend(history, k=4, at=at)
        assert [item.item for item in together] == [item.item for item in alone]
        assert [item.score for item in together] == pytest.approx([item.score for item in alone], abs=1e-5)
    wanted = [["i1"], [{"title": "hat"}, "i2"], ["i3"], []]
    for scores, history, items in zip(recommender.batch.score(asked, wanted, at=at), asked, wanted, strict=True):
        assert scores == pytest.approx(recommender.score(history, items, at=at), abs=1e-5)
    with pytest.raises(DataError, match="give each history its own"):
        recommender.batch.score(asked, [["i1"]], at=at)
    assert recommender.batch.similar_items(["i1", "i2"], k=3) == [
        recommender.similar_items(one, k=3) for one in ("i1", "i2")
    ]
    people = recommender.batch.similar_users(["u1", ["i3"]], k=2, log=log)
    assert people == [recommender.similar_users(one, k=2, log=log) for one in ("u1", ["i3"])]


def test_events_of_a_batch_are_each_at_their_own_moment(load_drifting: Load, log: Log) -> None:
    recommender, later = load_drifting(), after(log) + 900 * DAY
    recommender.live.replay_log(log)
    histories = [events_of(log, "u1"), [("i1", later)], [("i1", later), ("i2", later + 500 * DAY)]]
    for together, history in zip(recommender.batch.recommend(histories, k=3), histories, strict=True):
        assert together[0].score == pytest.approx(recommender.recommend(history, k=3)[0].score, abs=1e-5)


def test_read_histories_without_live_users_take_no_id(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="is one id"):
        parse_histories(recommender.catalog, ["i1"])
