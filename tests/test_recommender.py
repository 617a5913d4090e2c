"""The recommender in use: ranks as it scores, respects time, and knows new items by their text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.config import Strategy
from llmrec.errors import BundleError, ConfigError, DataError
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.recommender import Recommender

DAY = 86_400
NEW = {"item_id": "new", "title": "pro red palozo mini", "released": None}


@pytest.fixture
def make(
    make_bundle: Callable[[Strategy], Bundle], tmp_path: Path, tiny_bert: Path
) -> Callable[[Strategy], Recommender]:
    def load(strategy: Strategy) -> Recommender:
        save_bundle(tmp_path / "bundle", make_bundle(strategy))
        return Recommender.from_pretrained(tmp_path / "bundle", backbone=str(tiny_bert))

    return load


@pytest.fixture
def recommender(make: Callable[[Strategy], Recommender]) -> Recommender:
    return make("lora")


def ids(recommender: Recommender) -> list[str]:
    return [str(item) for item in recommender.catalog.ids.to_pylist()]


def test_the_best_are_those_that_score_best(recommender: Recommender) -> None:
    history = ids(recommender)[:3]
    others = [item for item in ids(recommender) if item not in history]
    scores = dict(zip(others, recommender.score(history, others), strict=True))
    found = recommender.recommend(history, k=5)
    assert [item.item for item in found] == sorted(others, key=lambda item: -scores[item])[:5]
    assert [item.score for item in found] == pytest.approx([scores[item.item] for item in found], abs=1e-6)
    assert [item.rank for item in found] == [1, 2, 3, 4, 5]


def test_seen_items_come_only_when_asked_for(recommender: Recommender) -> None:
    history = ids(recommender)[:3]
    everything = len(ids(recommender))
    assert not {item.item for item in recommender.recommend(history, everything)} & set(history)
    assert len(recommender.recommend(history, everything)) == everything - 3
    assert len(recommender.recommend(history, everything + 9, include_seen=True)) == everything


def test_events_at_or_after_the_query_time_are_not_known(recommender: Recommender) -> None:
    first, second, third = ids(recommender)[:3]
    known = recommender.recommend([(first, "2024-01-01"), (second, "2024-01-02")], at="2024-01-03T00:00:00Z")
    more = [(third, "2024-01-03"), (first, 1704067200), (second, "2024-01-02T01:00:00+01:00")]  # in any order
    assert recommender.recommend(more, at="2024-01-03") == known
    assert recommender.recommend(more, at="2024-01-04") != known


def test_an_empty_history_has_recommendations(recommender: Recommender) -> None:
    assert len(recommender.recommend([], k=4)) == 4
    later = [(ids(recommender)[0], "2024-01-02")]
    assert recommender.recommend(later, k=4, at="2024-01-01") == recommender.recommend([], k=4)


def test_many_are_as_one_by_one(recommender: Recommender) -> None:
    histories = [ids(recommender)[:3], [], ids(recommender)[5:6]]
    for together, history in zip(recommender.recommend_many(histories, k=3), histories, strict=True):
        alone = recommender.recommend(history, k=3)
        assert [item.item for item in together] == [item.item for item in alone]
        assert [item.score for item in together] == pytest.approx([item.score for item in alone], abs=1e-5)
    assert recommender.recommend_many([]) == []


def test_a_new_item_scores_by_its_text_before_and_after_it_joins(recommender: Recommender) -> None:
    history, before = ids(recommender)[:3], ids(recommender)
    cold, verbatim = recommender.score(history, [{"title": NEW["title"]}, {"text": NEW["title"]}])
    assert cold == verbatim
    others = recommender.score(history, before)
    recommender.add_items([NEW])
    assert recommender.score(history, ["new"])[0] == pytest.approx(cold, abs=1e-6)
    assert recommender.score(history, before) == pytest.approx(others, abs=1e-6)
    found = {item.item: item for item in recommender.recommend(history, k=len(before))}
    assert found["new"].label == NEW["title"]


def test_a_taken_id_adds_nothing(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="already"):
        recommender.add_items([NEW, {"item_id": ids(recommender)[0], "title": "x"}])
    assert "new" not in ids(recommender)


def test_a_grown_catalog_can_be_saved(recommender: Recommender, tmp_path: Path, tiny_bert: Path) -> None:
    history = ids(recommender)[:3]
    recommender.add_items([NEW])
    recommender.save_pretrained(tmp_path / "grown")
    again = Recommender.from_pretrained(tmp_path / "grown", backbone=str(tiny_bert))
    assert again.recommend(history, k=41) == recommender.recommend(history, k=41)
    assert again.score(history, [{"title": "hat"}]) == pytest.approx(recommender.score(history, [{"title": "hat"}]))


def test_a_model_on_ids_alone_says_that_it_cannot_read(make: Callable[[Strategy], Recommender]) -> None:
    with pytest.raises(BundleError, match="by id alone"):
        make("none").score([], [{"title": "hat"}])


def test_mistakes_are_named(recommender: Recommender) -> None:
    known = ids(recommender)[0]
    with pytest.raises(DataError, match=r'nope.*\n.*\{"title"'):
        recommender.score([known], ["nope"])
    with pytest.raises(DataError, match="unknown item id"):
        recommender.recommend(["nope"])
    with pytest.raises(DataError, match="'soon' is not an ISO date"):
        recommender.recommend([(known, "soon")])
    with pytest.raises(DataError, match="some events have a time"):
        recommender.recommend([known, (known, 1)])
    with pytest.raises(ConfigError, match="k=0"):
        recommender.recommend([known], k=0)
