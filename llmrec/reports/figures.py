"""Figures of a report: models, slices and training curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.drift.profile import DriftProfile
from llmrec.evaluation.metric_rows import MetricRow
from llmrec.evaluation.model_rows import ModelRow
from llmrec.evaluation.results import Report
from llmrec.reports.drift_figures import plot_drift_profile, plot_weekly_ndcg
from llmrec.reports.report_markdown import WEEKLY_FIGURE
from llmrec.reports.report_text import sort_models
from llmrec.utils.timing import timer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's color-blind-safe colors
_MAIN, _OTHER = "#D55E00", "#0072B2"
_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("s", "^", "D", "v", "P", "X")
_MODELS_BY_SLICE = 5  # more would be hard to distinguish


@timer.section("figures")
def write_figures(report: Report, folder: Path, *, training: Sequence[Mapping[str, Any]] = ()) -> list[Path]:
    """Write the figures of a report as PNG files.

    Args:
        report: All numbers of a run; one with a drift head adds the figures of `plot_drift_profile`.
        folder: Folder of the files; created if missing.
        training: One mapping for each epoch, with `model`, `seed`, `epoch`, `loss` and `valid_ndcg`; adds training.png.

    Returns:
        Paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"ndcg_by_model.png": plot_ndcg_by_model(report), "ndcg_by_slice.png": plot_ndcg_by_slice(report)}
    if training:
        figures["training.png"] = plot_training_curves(training)
    if report.run.drift is not None:
        figures |= plot_drift_profile(DriftProfile.from_record(dict(report.run.drift)))
    for part in report.parts:
        if part.weekly:
            figures[WEEKLY_FIGURE] = plot_weekly_ndcg(part.weekly)
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=150)
    return [folder / name for name in figures]


def plot_ndcg_by_model(report: Report) -> Figure:
    """Plot a dot and its interval for each model, one panel for each split, best on top.

    Args:
        report: All numbers of a run.

    Returns:
        Figure.
    """
    most = max(len(sort_models(report, split)) for split in report.splits)
    figure, axes = _make_panels(len(report.splits), height=1.2 + 0.36 * most)
    for axis, split in zip(axes, report.splits, strict=True):
        models = sort_models(report, split)[::-1]
        rows = _select_primary_rows(report, split)
        for place, model in enumerate(models):
            main = model == report.part(split).headline
            _draw_dot(axis, rows[model, "overall"], place, _MAIN if main else _OTHER, marker="o" if main else "s")
        axis.set_yticks(range(len(models)), [model.name for model in models])
        axis.set_ylim(-0.6, len(models) - 0.4)
        axis.set_title(f"{split} ({rows[models[0], 'overall'].n:,} queries)")
        axis.set_xlabel(f"{_format_label(report.primary)}, 95% interval")
        axis.set_xlim(left=0)
    return figure


def plot_ndcg_by_slice(report: Report) -> Figure:
    """Plot the headline model and the best of the others in every slice, one panel for each split.

    Args:
        report: All numbers of a run.

    Returns:
        Figure.
    """
    rows_of = {split: _select_primary_rows(report, split) for split in report.splits}
    most = max(len({name for _, name in rows}) for rows in rows_of.values())
    figure, axes = _make_panels(len(report.splits), height=2.0 + 0.62 * most)
    others = _select_rivals(report)
    looks = {part.headline.name: (_MAIN, "o") for part in report.parts}
    looks |= dict(zip((row.name for row in others), zip(_COLOURS, _MARKERS, strict=True), strict=False))
    for axis, split in zip(axes, report.splits, strict=True):
        main = report.part(split).headline
        rows = rows_of[split]
        slices = list(dict.fromkeys(name for _, name in rows))[::-1]
        shown = [model for model in (main, *others) if (model, "overall") in rows]
        offsets = np.linspace(0.3, -0.3, len(shown)) if len(shown) > 1 else np.zeros(1)
        for model, offset in zip(shown, offsets, strict=True):
            for place, name in enumerate(slices):
                color, marker = looks[model.name]
                _draw_dot(axis, rows[model, name], place + offset, color, marker=marker, size=5)
        for place in range(1, len(slices)):
            axis.axhline(place - 0.5, color="0.88", linewidth=0.8)
        axis.set_yticks(range(len(slices)), [f"{name}\n{rows[main, name].n:,} queries" for name in slices])
        axis.set_ylim(-0.5, len(slices) - 0.5)
        axis.set_title(split)
        axis.set_xlabel(f"{_format_label(report.primary)}, 95% interval")
        axis.set_xlim(left=0)
    _draw_legend(figure, looks)
    return figure


def plot_training_curves(training: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot loss and validation NDCG by epoch, one line for each model and seed.

    Args:
        training: One mapping for each epoch, with `model`, `seed`, `epoch`, `loss`, `valid_ndcg`; epoch 0 is the start.

    Returns:
        Figure.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _make_panels(2, height=4.0)
    models = list(dict.fromkeys(record["model"] for record in training))
    # Seven colors and six markers: a pair repeats only after 42 models.
    looks = dict(zip(models, zip(cycle((_MAIN, *_COLOURS)), cycle(_MARKERS), strict=False), strict=False))
    for axis, value, label in zip(axes, ("loss", "valid_ndcg"), ("training loss", "validation NDCG"), strict=True):
        for model, seed in dict.fromkeys((record["model"], record["seed"]) for record in training):
            line = [r for r in training if r["model"] == model and r["seed"] == seed and r.get(value) is not None]
            color, marker = looks[model]
            epochs = [record["epoch"] for record in line]
            axis.plot(epochs, [record[value] for record in line], color=color, marker=marker, markersize=4, alpha=0.8)
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _draw_legend(figure, looks)
    return figure


def _select_rivals(report: Report) -> list[ModelRow]:
    """Return the strongest models apart from the headlines, by their best rank in any split."""
    places: dict[ModelRow, int] = {}
    headlines = {part.headline for part in report.parts}
    for split in report.splits:
        others = (model for model in sort_models(report, split) if model not in headlines)
        for place, model in enumerate(others):
            places[model] = min(place, places.get(model, place))
    return sorted(places, key=lambda model: places[model])[:_MODELS_BY_SLICE]


def _select_primary_rows(report: Report, split: str) -> dict[tuple[ModelRow, str], MetricRow]:
    rows = (row for row in report.rows if row.split == split and row.metric == report.primary)
    return {(row.model, row.slice): row for row in rows}


def _draw_dot(axis: Axes, row: MetricRow, height: float, color: str, *, marker: str, size: float = 7) -> None:
    if row.low is not None and row.high is not None:
        axis.plot([row.low, row.high], [height, height], color=color, linewidth=1.6, zorder=2, clip_on=False)
    axis.plot([row.value], [height], marker, color=color, markersize=size, zorder=3, clip_on=False)


def _make_panels(n: int, height: float) -> tuple[Figure, list[Axes]]:
    """Make a figure without a display, with n panels side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * n, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(np.atleast_1d(figure.subplots(1, n)))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", color="0.9", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes


def _draw_legend(figure: Figure, looks: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles: Iterable[Line2D] = [
        Line2D([], [], color=color, marker=marker, markersize=6, label=model)
        for model, (color, marker) in looks.items()
    ]
    figure.legend(handles=list(handles), loc="outside lower center", ncols=min(len(looks), 3), frameon=False)


def _format_label(metric: str) -> str:
    return metric.replace("ndcg", "NDCG")
