from __future__ import annotations

import json
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from llmrec.config.evaluation import EvaluationConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.splits import TEST, Split
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.aggregate import evaluate_split, make_report, make_test_queries
from llmrec.evaluation.intervals import bootstrap_difference, bootstrap_mean
from llmrec.evaluation.metric_rows import Comparison, MetricRow
from llmrec.evaluation.metrics import ndcg_at
from llmrec.evaluation.model_rows import FROZEN, ModelRow
from llmrec.evaluation.ranking import Ranking
from llmrec.evaluation.results import Protocol, Report, SplitReport
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.evaluation.slices import COLD_POOL, make_slices
from llmrec.reports.report_files import read_report, write_report
from llmrec.reports.report_markdown import render_markdown
from llmrec.reports.report_text import render_table, summarize_report

CONFIG = EvaluationConfig(cutoffs=(5, 10), bootstrap_samples=200)
KNN, POPULARITY = ModelRow("baseline", "item_knn"), ModelRow("baseline", "popularity")
SETTINGS = {"ItemKNN": {"chosen": {"gamma": 0.8}, "n_tried": 12, "valid_ndcg@10": 0.1, "tried": []}, "popularity": {}}


def ranking(queries: Queries, best: int, worst: int, seed: int = 0) -> Ranking:
    """Random ranks from best to worst, which are one better in the pool."""
    rng = np.random.default_rng(seed)
    rank = rng.integers(best, worst + 1, len(queries)).astype(np.float64)
    return Ranking(rank, rng.integers(0, 9, (len(queries), 10)), np.maximum(rank - 1, 1))


def evaluated(split: Split, main: ModelRow = FROZEN) -> SplitReport:
    queries = make_queries(split, TEST)
    rankings = {
        FROZEN: [ranking(queries, 1, 12), ranking(queries, 1, 12, seed=1)],
        KNN: [ranking(queries, 1, 3, seed=2)],
        POPULARITY: [ranking(queries, 20, 40, seed=3)],
    }
    protocol = Protocol(split.n_items, "strict", "last_event", mask_seen=True)
    return evaluate_split(
        split.name,
        queries,
        make_slices(split, queries),
        rankings,
        protocol=protocol,
        config=CONFIG,
        main=main,
        settings=SETTINGS,
    )


@pytest.fixture
def report(split: Split) -> Report:
    return make_report([evaluated(split)], CONFIG, RunMetadata(commit="abc", data={"source": "toy"}))


def test_numbers_are_those_of_the_functions_they_are_made_of(split: Split) -> None:
    queries, found = make_queries(split, TEST), evaluated(split)
    ours = np.mean([ndcg_at(ranking(queries, 1, 12, seed=n).rank, 5) for n in (0, 1)], axis=0)
    theirs = ndcg_at(ranking(queries, 1, 3, seed=2).rank, 5)
    row = next(r for r in found.rows if (r.model, r.slice, r.metric) == (FROZEN, "overall", "ndcg@5"))
    assert (row.value, row.low, row.high) == pytest.approx(bootstrap_mean(ours, queries.user, samples=200))
    pair = next(c for c in found.comparisons if (c.against, c.slice, c.metric) == (KNN, "overall", "ndcg@5"))
    expected = bootstrap_difference(ours, theirs, queries.user, samples=200)
    assert (pair.difference, pair.low, pair.high, pair.p) == pytest.approx(expected)
    assert (pair.model, pair.verdict, pair.n) == (FROZEN, "worse", len(queries))


def test_slices_hold_their_own_queries(split: Split) -> None:
    queries, found = make_queries(split, TEST), evaluated(split)
    for name, mask in make_slices(split, queries).items():
        row = next(r for r in found.rows if (r.model, r.slice, r.metric) == (KNN, name, "ndcg@5"))
        assert row.n == mask.sum()
        ranked = ranking(queries, 1, 3, seed=2)
        rank = ranked.in_pool if name == COLD_POOL else ranked.rank
        assert rank is not None
        assert row.value == pytest.approx(ndcg_at(rank[mask], 5).mean())


def test_the_spread_of_seeds_is_recorded(split: Split) -> None:
    queries, found = make_queries(split, TEST), evaluated(split)
    assert {spread.model for spread in found.seeds} == {FROZEN.name}
    spread = next(s for s in found.seeds if s.metric == "ndcg@5")
    means = [ndcg_at(ranking(queries, 1, 12, seed=n).rank, 5).mean() for n in (0, 1)]
    assert spread.values == pytest.approx(means)
    assert spread.std == pytest.approx(np.std(means, ddof=1))


def test_report_json_has_its_schema_and_reads_back(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "run")
    content = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(content) == {"schema", "primary", "bootstrap_samples", "rows", "splits", "run"}
    of_model, of_number = ["model", "kind", "strategy", "refresh", "seed"], ["value", "low", "high", "n"]
    assert all(list(row) == [*of_model, "split", "slice", "metric", *of_number] for row in content["rows"])
    names = [field.name for field in fields(Comparison)]
    assert names == ["model", "against", "split", "slice", "metric", "difference", "low", "high", "p", "n"]
    (part,) = content["splits"].values()
    assert set(part) == {"headline", "protocol", "comparisons", "seeds", "settings", "weekly"}
    assert all(list(comparison) == names for comparison in part["comparisons"])
    assert content["run"]["commit"] == "abc"
    metrics = {row["metric"] for row in content["rows"]}
    assert metrics == {"recall@5", "ndcg@5", "recall@10", "ndcg@10", "mrr", "coverage@5", "coverage@10"}
    for row in content["rows"]:
        assert row["n"] > 0
        assert row["low"] is None or row["low"] <= row["value"] <= row["high"]
    again = read_report(tmp_path / "run" / "report.json")
    assert again == report
    assert [row.model.seed for row in again.rows] == [row.model.seed for row in report.rows]


def test_nothing_half_written_is_left(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    before = (tmp_path / "report.json").read_text()
    broken = replace(report, run=replace(report.run, share=float("nan")))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(broken, tmp_path)
    assert (tmp_path / "report.json").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]


def test_a_file_that_is_no_report_is_named(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"schema": 1, "rows": [{}]}')
    with pytest.raises(DataError, match=r"report\.json: 1 problem.*\n.*not a report"):
        read_report(path)


def test_the_text_says_who_wins_and_under_what_rules(report: Report) -> None:
    text = render_markdown(report)
    assert "* llmrec (frozen backbone) is better than popularity (+" in text
    assert "* llmrec (frozen backbone) is worse than ItemKNN (-" in text
    assert "* **ItemKNN wins** in ndcg@5 on overall (+" in text
    assert "popularity wins" not in text
    for rule in ("ranked among all 40 items", "seen items are masked", "ties count at their mean rank"):
        assert rule in text
    for rule in ("strictly before the query's time", "not when the target happens", "training part alone"):
        assert rule in text
    assert "* ItemKNN: gamma 0.8 (best of 12 on validation)" in text
    assert "* popularity: nothing to tune" in text
    assert "* commit: abc" in text
    assert "## Seeds" in text


def test_the_text_says_so_where_no_other_model_wins(split: Split) -> None:
    text = render_markdown(make_report([evaluated(split, main=KNN)], CONFIG, RunMetadata()))
    assert "No other model wins clearly in ndcg@5" in text


def test_markdown_tables_are_whole(report: Report) -> None:
    lines = render_markdown(report).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert tables
    for above, line in pairwise(lines):
        if above.startswith("|") and line.startswith("|"):
            assert above.count("|") == line.count("|")


def test_the_terminal_table_is_aligned_and_best_first(report: Report, split: Split) -> None:
    head, *lines = render_table(report, split.name).splitlines()
    assert head.startswith(f"{split.name}: ")
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines] == ["model", "ItemKNN", "llmrec", "popularity"]
    assert "llmrec (frozen backbone) *" in lines[2]


def test_models_must_have_ranked_the_same_queries(split: Split) -> None:
    queries = make_queries(split, TEST)
    protocol = Protocol(split.n_items, "strict", "known", mask_seen=True)
    short = {FROZEN: [ranking(queries.take(slice(0, 3)), 1, 5)]}
    with pytest.raises(ConfigError, match=r"llmrec \(frozen backbone\): rankings of \[3\] queries; expected"):
        evaluate_split(
            split.name, queries, make_slices(split, queries), short, protocol=protocol, config=CONFIG, main=FROZEN
        )
    with pytest.raises(ConfigError, match="main model 'ItemKNN' is not among the ranked ones"):
        evaluate_split(
            split.name, queries, make_slices(split, queries), short, protocol=protocol, config=CONFIG, main=KNN
        )


def test_a_single_user_has_no_interval_in_json(split: Split, tmp_path: Path) -> None:
    everyone = make_queries(split, TEST)
    queries = everyone.take(everyone.user == everyone.user[0])
    protocol = Protocol(split.n_items, "strict", "known", mask_seen=False, fitted_on="train+validation")
    rankings = {FROZEN: [ranking(queries, 1, 5)], POPULARITY: [ranking(queries, 5, 9)]}
    found = evaluate_split(
        split.name, queries, make_slices(split, queries), rankings, protocol=protocol, config=CONFIG, main=FROZEN
    )
    report = make_report([found], CONFIG, RunMetadata())
    assert all(row.low is None and row.high is None for row in report.rows)
    assert all(c.p is None and c.verdict == "no clear difference" for c in report.comparisons)
    write_report(report, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "seen items stay in" in text
    assert "refitted on training and validation" in text


def test_a_test_of_its_first_days(split: Split, tmp_path: Path) -> None:
    split, config = replace(split, name="by_time"), replace(CONFIG, first_days=3)
    everything = make_queries(split, TEST)
    queries = make_test_queries(split, "strict", config)
    soon = everything.time < split.test_start + 3 * 86_400
    assert 0 < soon.sum() < len(soon)
    np.testing.assert_array_equal(queries.target, everything.target[soon])
    assert len(make_test_queries(replace(split, name="leave_one_out"), "strict", config)) == len(everything)
    assert len(make_test_queries(split, "strict", replace(config, max_queries=1))) == 1
    protocol = Protocol(split.n_items, "strict", "known", mask_seen=True, first_days=3)
    slices, rankings = make_slices(split, queries), {FROZEN: [ranking(queries, 1, 5)]}
    found = evaluate_split(split.name, queries, slices, rankings, protocol=protocol, config=CONFIG, main=FROZEN)
    write_report(make_report([found], CONFIG, RunMetadata()), tmp_path)
    assert "Every target of the test's first 3 days is ranked" in (tmp_path / "report.md").read_text()


def test_a_bundle_keeps_who_won_and_what_was_told(report: Report, split: Split) -> None:
    kept = summarize_report(report)
    assert "**ItemKNN wins** in ndcg@5" in kept["verdicts"][split.name]
    assert {row["model"] for row in kept["rows"]} == {FROZEN.name, "ItemKNN", "popularity"}
    assert kept["sections"] == {}
    assert "drift" not in kept
    kept = summarize_report(replace(report, run=replace(report.run, transfer="Negative transfer: -0.0029.")))
    assert kept["sections"] == {"What other domains were worth": "Negative transfer: -0.0029."}


def test_rows_say_what_they_are(report: Report) -> None:
    assert all(isinstance(row, MetricRow) for row in report.rows)
    assert all(row.low is None for row in report.rows if row.metric.startswith("coverage"))
