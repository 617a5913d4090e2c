"""Logs that are odd and right: the recipe trains on them, and what it leaves answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.recommender import Recommender
from tests.hostile.corpus import CASES

Count = Callable[[int], None]
ODD = ["one item", "one user"]
ALSO = [
    "titles that command a terminal",
    "a test of new items alone", "titles of 10 MB, parquet", "titles of all scripts", "items nobody touched",
    "every event twice",
]  # fmt: skip
BY_NAME = {case.name: case for case in CASES}
TINY = [
    *("--model.dim=8 --model.max_history=6 --train.epochs=1 --train.batch_targets=64 --adapt.epochs=1".split()),
    *("--evaluation.bootstrap_samples=20 --evaluation.tuning_budget=1 --evaluation.n_explained_users=2".split()),
    *("--evaluation.baselines=[popularity,item_knn,nearest_text] --backbone.hub_id=owner/tiny".split()),
]


@pytest.mark.parametrize("name", [*ODD, *(pytest.param(name, marks=pytest.mark.slow) for name in ALSO)])
def test_a_run(
    name: str,
    tmp_path: Path,
    recipe: Callable[..., None],
    tiny_bert: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    count: Count,
) -> None:
    count(1)
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "log").mkdir()
    BY_NAME[name].lay(tmp_path / "log")
    given = ["--data.source", str(tmp_path / "log"), "--output", str(tmp_path / "run")]
    recipe(*given, *TINY, "--backbone.name", str(tiny_bert))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {row["model"] for row in report["rows"]} >= {"llmrec (frozen backbone)", "popularity"}
    recommender = Recommender.from_pretrained(tmp_path / "run" / "bundle", backbone=str(tiny_bert))
    n_items = len(recommender.catalog)
    assert len(recommender.recommend([], k=20)) == n_items
    assert len(recommender.recommend([str(recommender.catalog.ids[0])], k=20)) == n_items - 1
