"""Users who are similar, and what they have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmrec.data.log import Log
from llmrec.errors import ConfigError, DataError
from llmrec.inference.log_users import LogUsers
from llmrec.inference.user_similarity import find_common_items
from llmrec.recommender import Recommender


def test_friends_are_those_of_the_nearest_centred_states(recommender: Recommender, log: Log) -> None:
    users = LogUsers.from_log(log, recommender.catalog.items, None)
    states = torch.cat(list(users.iterate_states(recommender.catalog.scorer))).numpy()
    centered = states - states.mean(0)
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    mine = users.find_user("u3")
    order = [place for place in np.argsort(-(unit @ unit[mine])) if place != mine]
    found = recommender.similar_users("u3", k=99, log=log)
    assert [one.user for one in found] == [users.user_id(place) for place in order]
    assert [one.similarity for one in found] == pytest.approx([unit[place] @ unit[mine] for place in order], abs=1e-5)
    assert [one.rank for one in found] == list(range(1, 30))
    assert recommender.similar_users("u3", k=2, log=log) == found[:2]


def test_a_user_by_its_history_is_most_like_itself(recommender: Recommender, log: Log) -> None:
    users = LogUsers.from_log(log, recommender.catalog.items, None)
    history = [f"i{row}" for row in users.user_items(users.find_user("u3"))]
    first, *rest = recommender.similar_users(history, k=5, log=log)
    assert (first.user, first.n_events, first.n_shared, first.similar_pairs) == ("u3", 6, 6, ())
    assert first.similarity == pytest.approx(1.0, abs=1e-5)
    assert first.shared == tuple(history[:0:-1])  # five, newest first
    by_id = recommender.similar_users("u3", k=4, log=log)
    assert [(one.user, one.shared, one.n_shared) for one in rest] == [
        (one.user, one.shared, one.n_shared) for one in by_id
    ]


def test_items_without_an_entry_have_their_part_in_what_is_alike(recommender: Recommender, log: Log) -> None:
    title = str(recommender.catalog.items.fields["title"][3])
    found = recommender.similar_users([{"text": title}, "i5"], k=29, log=log)
    assert {pair.own for one in found for pair in one.similar_pairs} <= {title, "i5"}
    twins = {pair.similarity for one in found for pair in one.similar_pairs if (pair.own, pair.other) == (title, "i3")}
    assert twins  # the id's part of i3 tells it from its text


def test_later_events_are_not_known(recommender: Recommender, log: Log) -> None:
    at = int(np.median(log.interactions.time))
    users = LogUsers.from_log(log, recommender.catalog.items, at)
    found = recommender.similar_users(users.user_id(0), k=99, at=at, log=log)
    assert len(found) == len(users) - 1
    assert {one.user: one.n_events for one in found} == {
        users.user_id(place): len(users.user_items(place)) for place in range(1, len(users))
    }


def test_in_common_by_hand() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])
    shared, similar = find_common_items(np.array([0, 1, 0]), np.array([2, 1, 3]), vectors, ["a", "b", "c", "d"])
    assert shared == ["b"]
    assert [(pair.own, pair.other) for pair in similar] == [("a", "c")]
    assert similar[0].similarity == pytest.approx(2**-0.5)
    shared, similar = find_common_items(np.array([1, 0]), np.array([0, 1]), vectors, ["a", "b", "c", "d"])
    assert (shared, similar) == (["a", "b"], [])  # the newest of mine first, and nothing else is left


def test_mistakes_are_named(recommender: Recommender, log: Log) -> None:
    with pytest.raises(ConfigError, match=r"'x': no events in planted_world\. Give an id such as u"):
        recommender.similar_users("x", log=log)
    first = int(log.interactions.time[0]) + 1
    late = next(user for user in log.user_ids.to_pylist() if user != log.user_ids[0].as_py())
    with pytest.raises(ConfigError, match=f"'{late}' has no events before `at`"):
        recommender.similar_users(late, at=first, log=log)
    with pytest.raises(ConfigError, match="nothing to be like"):
        recommender.similar_users([], log=log)
    with pytest.raises(DataError, match="nope"):
        recommender.similar_users(["nope"], log=log)
    with pytest.raises(ConfigError, match="k=0"):
        recommender.similar_users("u3", k=0, log=log)
