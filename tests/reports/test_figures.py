from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from llmrec.evaluation.metric_rows import MetricRow
from llmrec.evaluation.model_rows import FROZEN, ModelRow
from llmrec.evaluation.results import Protocol, Report, SplitReport
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.reports.figures import plot_ndcg_by_model, plot_ndcg_by_slice, plot_training_curves, write_figures

SLUGS = ("popularity", "recent_popularity", "recent_popularity_static", "item_knn", "matrix", "sasrec")
MODELS = [FROZEN, *(ModelRow("baseline", slug) for slug in SLUGS)]
SLICES = ["overall", "warm_item", "cold_item", "history_1-4", "history_20+"]
TRAINING = [
    {"model": model, "seed": seed, "epoch": epoch, "loss": 5 / epoch, "valid_ndcg": 0.01 * epoch}
    for model in ("llmrec", "sasrec")
    for seed in (0, 1)
    for epoch in (1, 2, 3)
]


@pytest.fixture
def report() -> Report:
    rows = [
        MetricRow(model, split, name, "ndcg@10", 0.01 * (m + 1), 0.01 * m, 0.01 * (m + 2), 1000)
        for split in ("by_time", "leave_one_out")
        for name in SLICES
        for m, model in enumerate(MODELS)
    ]
    protocol = Protocol(50, "strict", "known", mask_seen=True)
    parts = tuple(
        SplitReport(split, FROZEN, protocol, tuple(row for row in rows if row.split == split), ())
        for split in ("by_time", "leave_one_out")
    )
    return Report(parts, "ndcg@10", 1000, RunMetadata())


def labels(axis: Axes) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


def test_figures_are_written_where_they_are_said_to_be(report: Report, tmp_path: Path) -> None:
    written = write_figures(report, tmp_path / "figures", training=TRAINING)
    assert [path.name for path in written] == ["ndcg_by_model.png", "ndcg_by_slice.png", "training.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert len(write_figures(report, tmp_path)) == 2  # without a training record there is nothing to draw


def test_every_model_has_its_place_best_on_top(report: Report) -> None:
    for axis in plot_ndcg_by_model(report).axes:
        assert labels(axis) == [model.name for model in MODELS]  # from the bottom up, and the values rise


def test_every_slice_has_its_place_and_tells_its_size(report: Report) -> None:
    for axis in plot_ndcg_by_slice(report).axes:
        assert labels(axis) == [f"{name}\n1,000 queries" for name in SLICES[::-1]]


def test_labels_do_not_overlap(report: Report) -> None:
    for figure in (plot_ndcg_by_model(report), plot_ndcg_by_slice(report)):
        figure.draw_without_rendering()
        for axis in figure.axes:
            boxes = sorted((label.get_window_extent() for label in axis.get_yticklabels()), key=lambda box: box.y0)
            assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_training_has_a_line_for_each_model_and_seed_and_skips_what_was_not_measured() -> None:
    records = [*TRAINING, {"model": "llmrec", "seed": 0, "epoch": 4, "loss": 1.0, "valid_ndcg": None}]
    loss, ndcg = plot_training_curves(records).axes
    assert len(loss.lines) == len(ndcg.lines) == 4
    assert len(loss.lines[0].get_xdata()) == 4
    assert len(ndcg.lines[0].get_xdata()) == 3
