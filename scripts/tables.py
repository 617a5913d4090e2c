r"""The tables of docs/benchmarks.md, in Markdown, from the report.json of one or several runs.

    python scripts/tables.py '[runs/A/report.json]' [--split by_time] [--slices '[first_14_days, warm_item, cold_item]']
    python scripts/tables.py '[runs/A/report.json, runs/B/report.json]' \
        --ahead "llmrec + drift, refreshed daily" [--slices '[first_14_days]']

The first has the models of one run, best first, and the primary metric again in each slice; the second what one model
is ahead of all others, a column for each run.
"""

from __future__ import annotations

from pathlib import Path

import jsonargparse

from llmrec.evaluation.metric_rows import MetricRow
from llmrec.evaluation.results import Report
from llmrec.reports.report_files import read_report
from llmrec.reports.report_text import format_markdown_table, sort_models


def tables(
    reports: list[Path], split: str = "by_time", slices: list[str] | None = None, ahead: str | None = None
) -> None:
    """Print the tables.

    Args:
        reports: report.json of runs, whose folders name the columns.
        slices: of the queries; without them all columns there are, or the whole test with `ahead`.
        ahead: the model that is compared with all others.
    """
    read = {path.parent.name: read_report(path) for path in reports}
    if ahead is None:
        for report in read.values():
            print(_models(report, split, slices or []))
    else:
        for name in slices or ["overall"]:
            print(_ahead(read, ahead, split, name), end="\n\n")


def _models(report: Report, split: str, slices: list[str]) -> str:
    metrics = [report.primary, *(m for m in ("recall@10",) if m != report.primary)]
    rows = {(r.model, r.slice, r.metric): r for r in report.rows if r.split == split}
    body = []
    for model in sort_models(report, split):
        best = rows[model, "overall", metrics[0]]
        name = f"**{model}**" if model == report.part(split).headline else model.name
        rest = [rows.get((model, "overall", metric)) for metric in metrics[1:]]
        rest += [rows.get((model, part, metrics[0])) for part in slices]
        body.append([name, f"{best.value:.4f}", f"{best.low:.4f} to {best.high:.4f}", *map(_value, rest)])
    return format_markdown_table(["model", metrics[0], "95% interval", *metrics[1:], *slices], body)


def _ahead(read: dict[str, Report], ahead: str, split: str, part: str) -> str:
    """`part` of the queries."""
    cells = {
        (name, c.against.name): f"{c.difference:+.4f} ({c.low:+.4f} to {c.high:+.4f})"
        for name, report in read.items()
        for c in report.comparisons
        if (c.model.name, c.split, c.slice, c.metric) == (ahead, split, part, report.primary)
    }
    models = dict.fromkeys(model.name for report in read.values() for model in sort_models(report, split))
    body = [[model, *(cells.get((name, model), "") for name in read)] for model in models if model != ahead]
    return format_markdown_table([f"`{ahead}` minus, {part}", *read], body)


def _value(row: MetricRow | None) -> str:
    return "" if row is None else f"{row.value:.4f}"


if __name__ == "__main__":
    jsonargparse.auto_cli(tables)
