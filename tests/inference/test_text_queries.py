"""What plain words say of items and users."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from llmrec.errors import BundleError, ConfigError, DataError
from llmrec.inference.text_queries import QUERY_TEMPERATURE, TEMPERATURE, average_interest
from llmrec.recommender import Recommender

LABELS = ["space robot", "love", "night river"]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def read(recommender: Recommender, texts: list[str]) -> np.ndarray:
    """(C, D_text)"""
    return recommender.catalog.text_space.backbone.encode(
        recommender.catalog.text_space.backbone.tokenize(texts)
    ).numpy()


def by_hand(recommender: Recommender, text: np.ndarray, labels: list[str]) -> np.ndarray:
    """(C, L) shares, from the definition."""
    catalog, label = recommender.catalog.text_space.vectors.numpy(), read(recommender, labels)
    logits = unit(text - catalog.mean(0)) @ unit(label - label.mean(0)).T / TEMPERATURE
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_an_item_s_topics_are_a_softmax_over_centred_cosines(recommender: Recommender) -> None:
    catalog = recommender.catalog.text_space.vectors.numpy()
    new = read(recommender, ["space love"])
    expected = by_hand(recommender, np.concatenate([catalog[[5, 0]], new]), LABELS)
    found = recommender.batch.item_topics(["i5", "i0", {"text": "space love"}], LABELS)
    for shares, row in zip(found, expected, strict=True):
        assert {one.label: one.share for one in shares} == pytest.approx(dict(zip(LABELS, row, strict=True)), abs=1e-4)
        assert [one.label for one in shares] == [LABELS[column] for column in np.argsort(-row)]


def test_a_template_is_read_in_a_label_s_place(recommender: Recommender) -> None:
    told = recommender.batch.item_topics(["i5"], ["love", "war"], template="a {label} movie")[0]
    spelt = recommender.batch.item_topics(["i5"], ["a love movie", "a war movie"])[0]
    assert [one.share for one in told] == [one.share for one in spelt]
    assert {one.label for one in told} == {"love", "war"}


def test_interest_halves_with_every_so_many_events() -> None:
    events = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])  # weights 1/4, 1/2, 1 at a half-life of one event
    assert average_interest(events, 1.0).tolist() == pytest.approx([5 / 7, 2 / 7])
    assert average_interest(events, 1e9).tolist() == pytest.approx([2 / 3, 1 / 3])
    for half_life in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="half_life_events"):
            average_interest(events, half_life)


def test_a_user_s_topics_are_the_weighted_mean_of_the_events(recommender: Recommender) -> None:
    history = [("i5", "2024-01-01"), ({"text": "space love"}, "2024-01-02"), ("i0", "2024-01-03")]
    each = recommender.batch.item_topics(["i5", {"text": "space love"}, "i0"], LABELS)
    expected = {
        label: np.average([next(one.share for one in of_item if one.label == label) for of_item in each],
                          weights=[1, 2, 4])
        for label in LABELS
    }  # fmt: skip
    found = recommender.topics(history, LABELS, half_life_events=1.0)
    assert {one.label: one.share for one in found} == pytest.approx(expected, abs=1e-5)
    earlier = recommender.topics(history, LABELS, at="2024-01-02")
    assert [one.share for one in earlier] == pytest.approx([one.share for one in each[0]], abs=1e-5)


def test_a_topic_keeps_the_nearest_tenth(recommender: Recommender) -> None:
    catalog = recommender.catalog.text_space.vectors.numpy()
    near = unit(catalog - catalog.mean(0)) @ unit(read(recommender, ["love war"]))[0]
    assert set(np.flatnonzero(recommender.catalog.topic_mask("love war"))) == set(np.argsort(-near)[:4])
    assert recommender.catalog.topic_mask("love war", fraction=0.26).sum() == 11  # rounded up
    expected = {f"i{row}" for row in np.argsort(-near)[:4]}
    assert {one.item for one in recommender.recommend([], k=40, topic="love war")} == expected


def test_what_is_looked_for_adds_its_evidence_to_every_score(recommender: Recommender) -> None:
    catalog = recommender.catalog.text_space.vectors.numpy()
    gain = unit(catalog - catalog.mean(0)) @ unit(read(recommender, ["love war"]))[0] / QUERY_TEMPERATURE
    for history in ([], ["i1", "i2"]):
        before = {one.item: one.score for one in recommender.recommend(history, k=40, include_seen=True)}
        found = recommender.recommend(history, k=40, include_seen=True, query="love war")
        expected = {item: score + gain[int(item[1:])] for item, score in before.items()}
        assert {one.item: one.score for one in found} == pytest.approx(expected, abs=1e-4)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_mistakes_are_named(recommender: Recommender) -> None:
    for labels in ([], ["love"], ["love", " "], "love"):
        with pytest.raises(ConfigError, match="at least two"):
            recommender.batch.item_topics(["i1"], labels)
    with pytest.raises(ConfigError, match="given twice"):
        recommender.batch.item_topics(["i1"], ["love", "love"])
    with pytest.raises(ConfigError, match=r"lacks \{label\}"):
        recommender.topics(["i1"], LABELS, template="film")
    with pytest.raises(ConfigError, match="no events"):
        recommender.topics([("i1", 10)], LABELS, at=10)
    with pytest.raises(DataError, match="nope"):
        recommender.batch.item_topics(["nope"], LABELS)
    with pytest.raises(ConfigError, match="topic is empty"):
        recommender.recommend([], topic=" ")
    with pytest.raises(ConfigError, match="query is empty"):
        recommender.recommend([], query="")
    for share in (0, 1.5):
        with pytest.raises(ConfigError, match="fraction="):
            recommender.catalog.topic_mask("love", fraction=share)


def test_a_model_on_ids_alone_has_no_words(load: Callable[..., Recommender]) -> None:
    recommender = load("none")
    for ask in (
        lambda: recommender.recommend([], topic="love"),
        lambda: recommender.recommend([], query="love"),
        lambda: recommender.batch.item_topics(["i1"], LABELS),
        lambda: recommender.topics(["i1"], LABELS),
    ):
        with pytest.raises(BundleError, match="item ids only"):
            ask()
