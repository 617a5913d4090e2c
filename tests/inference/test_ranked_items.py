"""Ranked lists, and which items may stand in them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from llmrec.data.items.catalog import ItemCatalog
from llmrec.errors import ConfigError
from llmrec.inference.ranked_items import Filters, filter_mask, top_recommendations
from llmrec.recommender import Recommender

FIELDS = {
    "item_id": pa.array(["a", "b", "c", "d"], pa.large_string()),
    "title": ["Heat", "Alien", "Up", "x=y"],
    "year": pa.array([1995, 1979, 2009, None], pa.int32()),
    "tags": [["crime", "Drama"], ["space drama"], [], None],
}
CATALOG = ItemCatalog(pa.table(FIELDS))


@pytest.mark.parametrize(
    ("filters", "met"),
    [
        ("title=Heat", "a"),
        ("title~E", "ab"),  # capitals aside
        ("year=1979", "b"),
        ("year~19", "ab"),
        ("tags=Drama", "a"),  # one of the list, as it is written
        ("tags~drama", "ab"),
        ("title=x=y", "d"),  # the first sign cuts
        (" title = Up ", "c"),
        (["tags~drama", "year=1995"], "a"),
        (np.array([True, False, False, True]), "ad"),
    ],
)
def test_conditions_keep_what_meets_them_all(filters: Filters, met: str) -> None:
    assert "".join(CATALOG.ids.filter(pa.array(filter_mask(CATALOG, filters))).to_pylist()) == met


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ("Drama", "is no condition; write field=value"),
        ("=Drama", "is no condition"),
        ("tags=", "is no condition"),
        ([], "no condition"),
        ("genre=Drama", "no field 'genre'; they have item_id, title, year, tags"),
        ("tags=drama", "no item has it; tags~drama looks for a part of it; values look like 'crime, Drama'"),
        ("year=1", "values look like '1995'"),
        (["title=Up", "year=1979"], "no item meets them all"),
        (np.array([True]), r"of shape \(4,\)"),
        (np.zeros(4), "float64 of shape"),
    ],
)
def test_a_condition_that_cannot_be_met_is_named(filters: Filters, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        filter_mask(CATALOG, filters)


def test_the_best_come_first_and_what_is_out_does_not_come() -> None:
    found = top_recommendations(CATALOG, torch.tensor([0.5, -torch.inf, 2.0, 1.0]), k=9)
    assert [(one.rank, one.item, one.label, one.score) for one in found] == [
        (1, "c", "Up", 2.0), (2, "d", "x=y", 1.0), (3, "a", "Heat", 0.5)
    ]  # fmt: skip
    assert len(top_recommendations(CATALOG, torch.zeros(4), k=2)) == 2


def test_a_recommendation_chooses_from_what_is_allowed(recommender: Recommender) -> None:
    part = str(recommender.catalog.items.fields["title"][0]).split()[0]
    expected = [one for one in recommender.recommend(["i1"], k=40) if part in one.label]
    assert 0 < len(expected) < 30
    found = recommender.recommend(["i1"], k=40, filters=f"title~{part}")
    assert [(one.item, one.score) for one in found] == [(one.item, one.score) for one in expected]
    mask = np.arange(40) < 3
    assert {one.item for one in recommender.recommend([], k=40, filters=mask)} == {"i0", "i1", "i2"}
    both = recommender.batch.recommend([[], ["i1"]], k=40, filters=mask)
    assert [{one.item for one in of_one} for of_one in both] == [{"i0", "i1", "i2"}, {"i0", "i2"}]
