"""The recommender in use: ranks as it scores, respects time, and knows new items by their text."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from llmrec.config.backbone import Strategy
from llmrec.data.log import Log
from llmrec.errors import BundleError, ConfigError, DataError
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.models.recommender_model import RecommenderModel
from llmrec.recommender import Recommender
from tests.closeness import assert_same

DAY = 86_400
NEW = {"item_id": "new", "title": "pro red palozo mini", "released": None}


Make = Callable[..., Recommender]


@pytest.fixture
def make(make_bundle: Callable[[Strategy], Bundle], tmp_path: Path, tiny_bert: Path) -> Make:
    """make(strategy, **changes): a loaded bundle, its model drawn anew where its settings change."""

    def load(strategy: Strategy, **changes: object) -> Recommender:
        bundle = make_bundle(strategy)
        if changes:
            torch.manual_seed(1)
            config, items = replace(bundle.config.model, **changes), bundle.model.items
            model = RecommenderModel(config, items.known, items.text).eval()
            model.novelty.fill_(0.7)
            assert model.histories.time_bias is not None
            torch.nn.init.normal_(model.histories.time_bias.bias.weight)  # they start at zero, deaf to time
            bundle = replace(bundle, config=replace(bundle.config, model=config), model=model)
        save_bundle(tmp_path / "bundle", bundle)
        return Recommender.from_pretrained(tmp_path / "bundle", backbone=str(tiny_bert))

    return load


@pytest.fixture
def recommender(make: Make) -> Recommender:
    return make("lora")


def ids(recommender: Recommender) -> list[str]:
    return [str(item) for item in recommender.catalog.ids.to_pylist()]


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        ("none", {}),
        ("lora", {}),
        ("frozen", {"similarity": "cosine", "block": "ligr"}),
        ("full", {"use_item_ids": False}),
    ],
)
def test_the_best_are_those_that_score_best(make: Make, strategy: Strategy, changes: dict[str, object]) -> None:
    recommender = make(strategy, **changes)
    history = ids(recommender)[:3]
    others = [item for item in ids(recommender) if item not in history]
    scores = dict(zip(others, recommender.score(history, others), strict=True))
    found = recommender.recommend(history, k=5)
    assert [item.item for item in found] == sorted(others, key=lambda item: -scores[item])[:5]
    assert [item.score for item in found] == pytest.approx([scores[item.item] for item in found], abs=1e-5)
    assert [item.rank for item in found] == [1, 2, 3, 4, 5]


def test_seen_items_come_only_when_asked_for(recommender: Recommender) -> None:
    history = ids(recommender)[:3]
    everything = len(ids(recommender))
    assert not {item.item for item in recommender.recommend(history, k=everything)} & set(history)
    assert len(recommender.recommend(history, k=everything)) == everything - 3
    assert len(recommender.recommend(history, k=everything + 9, include_seen=True)) == everything


def test_what_a_state_no_longer_looks_back_on_is_seen_all_the_same(make: Make) -> None:
    recommender = make("frozen", max_history=2)
    first, *rest = ids(recommender)[:5]
    found = recommender.recommend([first, *rest], k=40)
    assert first not in {item.item for item in found}
    shorter = [item for item in recommender.recommend(rest[-2:], k=40) if item.item not in [first, *rest]]
    assert [(item.item, item.score) for item in found] == [(item.item, item.score) for item in shorter]


def test_events_at_or_after_the_query_time_are_not_known(recommender: Recommender) -> None:
    first, second, third = ids(recommender)[:3]
    known = recommender.recommend([(first, "2024-01-01"), (second, "2024-01-02")], at="2024-01-03T00:00:00Z")
    more = [(third, "2024-01-03"), (first, 1704067200), (second, "2024-01-02T01:00:00+01:00")]  # in any order
    assert_same(recommender.recommend(more, at="2024-01-03"), known)
    assert recommender.recommend(more, at="2024-01-04") != known


def test_an_event_at_the_query_time_is_not_known_and_one_a_second_before_is(recommender: Recommender) -> None:
    item, noon = ids(recommender)[0], 1704110400
    assert_same(recommender.recommend([(item, noon)], at=noon), recommender.recommend([]))
    assert_same(recommender.recommend([(item, noon - 1)], at=noon), recommender.recommend([item]))


def test_order_is_by_time_where_there_is_time_and_as_given_where_there_is_none(recommender: Recommender) -> None:
    first, second, third = ids(recommender)[:3]
    in_order = recommender.score([(first, 10), (second, 20), (third, 30)], ["i7", "i8"])
    assert_same(recommender.score([(third, 30), (first, 10), (second, 20)], ["i7", "i8"]), in_order)
    untimed = recommender.score([first, second, third], ["i7", "i8"])
    assert untimed != recommender.score([third, first, second], ["i7", "i8"])
    ties = recommender.score([(first, 0), (second, 0), (third, 0)], ["i7", "i8"])  # as given, too
    assert ties == untimed


def test_a_time_may_be_written_in_many_ways(recommender: Recommender) -> None:
    first, second = ids(recommender)[:2]
    zone = timezone(timedelta(hours=2))
    same = [1704153600, 1704153600.0, np.int64(1704153600), "2024-01-02", "2024-01-02T00:00:00Z", date(2024, 1, 2),
            "2024-01-02T02:00:00+02:00", datetime(2024, 1, 2), datetime(2024, 1, 2, 2, tzinfo=zone),
            np.datetime64("2024-01-02")]  # fmt: skip
    expected = recommender.recommend([(first, 1704153600), (second, 1704153000)], at=1704153601)
    for time in same:
        assert_same(recommender.recommend([(first, time), (second, 1704153000)], at=1704153601), expected)
        assert_same(
            recommender.recommend([(first, 1704153599), (second, time)], at=time), recommender.recommend([first])
        )


def test_a_model_that_is_told_the_time_hears_of_it(make: Make) -> None:
    recommender = make("frozen", query_time="known", n_layers=2)
    first, second = ids(recommender)[:2]
    timed = [(first, "2024-01-01"), (second, "2024-01-02")]
    soon, late = (recommender.score(timed, ["i7", "i8"], at=at) for at in ("2024-01-03", "2025-06-01"))
    assert soon != late
    told = recommender.score([first, second], ["i7", "i8"], at="2024-01-03")
    assert told == recommender.score([first, second], ["i7", "i8"])  # events without a time are no decades old


def test_an_empty_history_has_recommendations(recommender: Recommender) -> None:
    assert len(recommender.recommend([], k=4)) == 4
    later = [(ids(recommender)[0], "2024-01-02")]
    assert_same(recommender.recommend(later, k=4, at="2024-01-01"), recommender.recommend([], k=4))


def test_many_are_as_one_by_one(recommender: Recommender) -> None:
    histories = [ids(recommender)[:3], [], ids(recommender)[5:6], ids(recommender) + ids(recommender)[:30]]
    for together, history in zip(recommender.batch.recommend(histories, k=3), histories, strict=True):
        alone = recommender.recommend(history, k=3)
        assert [item.item for item in together] == [item.item for item in alone]
        assert [item.score for item in together] == pytest.approx([item.score for item in alone], abs=1e-5)
    assert recommender.batch.recommend([]) == []


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_new_item_scores_by_its_text_before_and_after_it_joins(make: Make, similarity: str) -> None:
    recommender = make("lora", similarity=similarity)
    history, before = ids(recommender)[:3], ids(recommender)
    cold, verbatim = recommender.score(history, [{"title": NEW["title"]}, {"text": NEW["title"]}])
    assert cold == verbatim
    others = recommender.score(history, before)
    recommender.catalog.add([NEW])
    assert recommender.score(history, ["new"])[0] == pytest.approx(cold, abs=1e-5)
    assert recommender.score(history, before) == pytest.approx(others, rel=1e-5, abs=1e-5)
    found = {item.item: item for item in recommender.recommend(history, k=len(before))}
    assert found["new"].label == NEW["title"]
    assert found["new"].score == pytest.approx(cold, abs=1e-5)
    assert "new" not in {item.item for item in recommender.recommend([*history, "new"], k=len(before))}


def test_items_can_join_one_after_the_other(recommender: Recommender) -> None:
    texts = ["pro red mini", "old hat", "the best garden kit"]
    cold = recommender.score(["i1"], [{"text": text} for text in texts])
    recommender.catalog.add([{"item_id": "n0", "title": texts[0]}])
    recommender.catalog.add([])
    recommender.catalog.add([{"item_id": f"n{row}", "title": texts[row]} for row in (1, 2)])
    assert recommender.score(["i1"], ["n0", "n1", "n2"]) == pytest.approx(cold, abs=1e-5)
    assert ids(recommender)[-3:] == ["n0", "n1", "n2"]


def test_a_taken_id_adds_nothing(recommender: Recommender) -> None:
    before = recommender.recommend(["i1"], k=50)
    with pytest.raises(DataError, match="already"):
        recommender.catalog.add([NEW, {"item_id": ids(recommender)[0], "title": "x"}])
    with pytest.raises(DataError, match="new"):
        recommender.catalog.add([NEW, NEW])
    with pytest.raises(DataError, match="missing id"):
        recommender.catalog.add([NEW, {"title": "no id"}])
    assert "new" not in ids(recommender)
    assert_same(recommender.recommend(["i1"], k=50), before)


def test_a_grown_catalog_can_be_saved(recommender: Recommender, tmp_path: Path, tiny_bert: Path) -> None:
    history = ids(recommender)[:3]
    recommender.catalog.add([NEW])
    recommender.save_pretrained(tmp_path / "grown")
    again = Recommender.from_pretrained(tmp_path / "grown", backbone=str(tiny_bert))
    assert_same(again.recommend(history, k=41), recommender.recommend(history, k=41))
    assert again.score(history, [{"title": "hat"}]) == pytest.approx(
        recommender.score(history, [{"title": "hat"}]), rel=1e-5
    )
    again.catalog.add([{"item_id": "newer", "title": "hat"}])
    again.save_pretrained(tmp_path / "grown")  # over the folder that it came from
    third = Recommender.from_pretrained(tmp_path / "grown", backbone=str(tiny_bert))
    assert_same(third.recommend(history, k=42), again.recommend(history, k=42))
    assert third.score(history, [{"title": "hat"}]) == pytest.approx(third.score(history, ["newer"]), abs=1e-5)


def test_a_model_on_ids_alone_says_that_it_cannot_read(make: Callable[[Strategy], Recommender]) -> None:
    with pytest.raises(BundleError, match="item ids only"):
        make("none").score([], [{"title": "hat"}])
    with pytest.raises(BundleError, match="item ids only"):
        make("none").catalog.add([NEW])


def test_mistakes_are_named(recommender: Recommender) -> None:
    known = ids(recommender)[0]
    with pytest.raises(DataError, match=r'nope.*\n.*\{"title"'):
        recommender.score([known], ["nope"])
    with pytest.raises(DataError, match="unknown item id"):
        recommender.recommend(["nope"])
    with pytest.raises(DataError, match="titel"):
        recommender.score([known], [{"titel": "hat"}])
    for empty in ({"title": ""}, {"text": ""}, {"text": None}):
        with pytest.raises(DataError, match="empty text"):
            recommender.score([known], [empty])
    for odd in (None, (known, 1, 2), (known,)):
        with pytest.raises(DataError, match="is no event"):
            recommender.recommend([known, odd])
    with pytest.raises(DataError, match="None is no item"):
        recommender.score([known], [None])
    for odd in (1.5, True, float("nan")):
        with pytest.raises(DataError, match="is no id"):
            recommender.score([known], [odd])
    for never in (None, float("nan"), float("inf")):
        with pytest.raises(DataError, match="is not an ISO date"):
            recommender.recommend([(known, never)])
    with pytest.raises(DataError, match="'soon' is not an ISO date"):
        recommender.recommend([(known, "soon")])
    with pytest.raises(DataError, match="some events have a time"):
        recommender.recommend([known, (known, 1)])
    with pytest.raises(ConfigError, match="k=0"):
        recommender.recommend([known], k=0)


def test_what_is_not_out_yet_is_not_recommended(recommender: Recommender) -> None:
    recommender.catalog.add([NEW | {"released": "2030-01-01"}])
    everything = len(ids(recommender))
    for at, expected in (("2029-12-31", False), ("2030-01-01", True), (None, True)):
        found = {item.item for item in recommender.recommend([], k=everything, at=at)}
        assert ("new" in found) is expected


def test_one_where_a_list_belongs_is_a_mistake(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="unknown user 'i1'"):
        recommender.recommend("i1")
    with pytest.raises(DataError, match=r"'hat'. is one item"):
        recommender.recommend({"title": "hat"})
    for one in ("i1", {"title": "hat"}):
        with pytest.raises(DataError, match="is one item; give a list"):
            recommender.score(["i2"], one)


def test_milliseconds_are_no_seconds(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="not milliseconds"):
        recommender.recommend([("i1", 1_704_153_600_000)])


def test_the_device_is_a_choice(recommender: Recommender, tmp_path: Path, tiny_bert: Path) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    there = Recommender.from_pretrained(tmp_path / "bundle", backbone=str(tiny_bert), device=device)
    items = ["i5", {"title": "old hat"}]
    assert there.score(["i1"], items) == pytest.approx(recommender.score(["i1"], items), rel=1e-4)
    there.catalog.add([NEW])
    there.save_pretrained(tmp_path / "again")
    again = Recommender.from_pretrained(tmp_path / "again")
    assert again.score(["i1"], ["new"]) == pytest.approx(there.score(["i1"], ["new"]), rel=1e-4)


def test_it_shows_what_it_is(recommender: Recommender) -> None:
    lines = repr(recommender).splitlines()
    assert lines[0].split() == ["Recommender", str(recommender.catalog.folder)]
    assert lines[2] == "items        40, text '{title}'"
    assert "<td>items</td><td>40, text &#x27;{title}&#x27;</td>" in recommender._repr_html_()


def test_ids_are_asked_for_as_the_log_has_them(make_bundle: Callable[..., Bundle], log: Log, tmp_path: Path) -> None:
    numbers = [str(number) for number in range(len(log.catalog))]
    fields = log.catalog.fields.set_column(
        log.catalog.fields.column_names.index(log.catalog.id_column),
        log.catalog.id_column,
        pa.array(numbers, pa.large_string()),
    )
    save_bundle(tmp_path / "b", replace(make_bundle("none"), catalog=replace(log.catalog, fields=fields)))
    recommender = Recommender.from_pretrained(tmp_path / "b")
    right = recommender.recommend(["1", "2"], k=3)
    for asked in ([1, 2], np.array([1, 2]), (1.0, np.int32(2)), pa.array([1, 2])):
        assert recommender.recommend(asked, k=3) == right
    timed = [("1", "2023-05-01")], [(np.int64(1), "2023-05-01")]
    assert recommender.recommend(timed[0], k=3) == recommender.recommend(timed[1], k=3)
    assert recommender.score([1], [2, "3"]) == recommender.score(["1"], ["2", "3"])
    assert recommender.explain([1], 2) == recommender.explain(["1"], "2")
    assert recommender.similar_items(2, by="model") == recommender.similar_items("2", by="model")
    recommender.live.observe(5, 7, "2024-01-01")
    assert recommender.live.history("5") == recommender.live.history(5.0) == [("7", 1704067200)]
    assert recommender.recommend(5, k=3) == recommender.recommend("5", k=3)
    recommender.catalog.remove([7])
    assert recommender.catalog.removed == {"7"}


@pytest.mark.parametrize(
    ("repeats", "mask_seen", "seen"), [("drop", None, False), ("keep", None, True), ("keep", True, False)]
)
def test_a_bundle_recommends_what_its_evaluation_ranked(
    make_bundle: Callable[..., Bundle], tmp_path: Path, repeats: str, mask_seen: bool | None, seen: bool
) -> None:
    bundle = make_bundle("none")
    config = replace(
        bundle.config,
        data=replace(bundle.config.data, repeats=repeats),
        evaluation=replace(bundle.config.evaluation, mask_seen=mask_seen),
    )
    save_bundle(tmp_path / "b", replace(bundle, config=config))
    recommender = Recommender.from_pretrained(tmp_path / "b")
    history, n = ids(recommender)[:2], len(recommender.catalog)
    for asked, kept in ((None, seen), (True, True), (False, False)):
        found = {one.item for one in recommender.recommend(history, k=n, include_seen=asked)}
        assert set(history) <= found if kept else not found & set(history)
    assert ("are recommended again" in (tmp_path / "b" / "README.md").read_text()) == seen
