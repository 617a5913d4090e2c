"""Histories that hold items of no catalog, or of another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmrec.errors import BundleError, DataError
from llmrec.inference.queries import to_text_history
from llmrec.recommender import Recommender
from tests.closeness import assert_same

TITLE = "space love"


def test_an_item_known_by_text_says_what_it_says_once_it_is_added(recommender: Recommender) -> None:
    history = [("i1", 10), ({"title": TITLE}, 30), ("i2", 20)]
    before = recommender.score(history, ["i7", "i8", {"title": TITLE}])
    listed = recommender.recommend(history, k=50)
    recommender.catalog.add([{"item_id": "new", "title": TITLE}])
    assert recommender.score([("i1", 10), ("i2", 20), ("new", 30)], ["i7", "i8", "new"]) == pytest.approx(
        before, abs=1e-5
    )
    after = recommender.recommend([("i1", 10), ("i2", 20), ("new", 30)], k=50)
    assert [one.item for one in after] == [one.item for one in listed]


def test_a_history_of_another_domain_is_read_by_its_text(load: Callable[..., Recommender]) -> None:
    here, there = load(), load(name="there")
    there.catalog.add([{"item_id": "new", "title": TITLE}])
    described = to_text_history(there.catalog.items, ["new", ("i3", 10), ({"title": "a"}, "2024-01-01"), {"text": "b"}])
    third = str(there.catalog.items.text_array[3])
    assert described == [{"text": TITLE}, ({"text": third}, 10), ({"text": "a"}, "2024-01-01"), {"text": "b"}]
    by_text = here.recommend([{"text": TITLE}, {"text": third}], k=40)
    assert_same(here.recommend(to_text_history(there.catalog.items, ["new", "i3"]), k=40), by_text)
    assert len(by_text) == 40  # nothing of the catalog has been seen


def test_many_histories_share_what_they_hold(recommender: Recommender) -> None:
    histories = [["i1", {"text": TITLE}], [], [{"text": "war"}, {"text": TITLE}], ["i2"]]
    for together, history in zip(recommender.batch.recommend(histories, k=5), histories, strict=True):
        alone = recommender.recommend(history, k=5)
        assert [one.item for one in together] == [one.item for one in alone]
        assert [one.score for one in together] == pytest.approx([one.score for one in alone], abs=1e-5)


def test_mistakes_are_named(recommender: Recommender, load: Callable[..., Recommender]) -> None:
    with pytest.raises(DataError, match="is one item; give a list"):
        recommender.recommend({"text": TITLE})
    with pytest.raises(DataError, match="empty text"):
        recommender.recommend([{"text": " "}])
    with pytest.raises(DataError, match="titel"):
        recommender.recommend([{"titel": TITLE}])
    with pytest.raises(BundleError, match="item ids only"):
        load("none").recommend([{"text": TITLE}])
