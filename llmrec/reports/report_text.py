"""A report for people: Markdown for the run's folder, plain columns for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llmrec.drift.profile import DriftProfile
from llmrec.evaluation.deletion_test import DeletionResult
from llmrec.evaluation.results import Comparison, MetricRow, Report
from llmrec.reports.drift_text import describe_drift_head, render_drift_section
from llmrec.reports.faithfulness_text import render_faithfulness
from llmrec.reports.privacy_text import render_privacy_section
from llmrec.utils.text import format_table

_OWN_KEYS = {
    "main",
    "primary",
    "bootstrap_samples",
    "protocol",
    "settings",
    "seeds",
    "comparisons",
    "drift",
    "explanations",
    "privacy",
    "membership",
}
_FITTED = {
    "train": "fitted on the training part alone",
    "train+validation": "refitted on training and validation together, with settings chosen before",
}
_QUERY_TIME = {
    "known": "the model is told when the target happens",
    "last_event": "the model is told the time of the last event only, not when the target happens",
}
_TIES = {
    "strict": "histories hold the events strictly before the query's time, so that events of the same time are in none "
    "of each other's",
    "file_order": "histories hold the events before the target in the file's order, those of the same time included "
    "(the papers' habit)",
}
_TOLD = {"transfer": "What other domains were worth", "distillation": "What is left of the teacher"}
_VERDICTS = {
    "better": "is better than",
    "no clear difference": "shows no clear difference from",
    "worse": "is worse than",
}


def render_table(report: Report, split: str) -> str:
    """All models on all queries of a split, best first, in aligned plain columns."""
    rows, metrics = _select_overall_rows(report, split)
    primary = metrics[0]
    head = ["model", primary, "95% interval", *metrics[1:]]
    lines = [head]
    for model in sort_models(report, split):
        best = rows[model, primary]
        rest = [f"{rows[model, metric].value:.4f}" for metric in metrics[1:]]
        lines.append([model, f"{best.value:.4f}", _format_interval(best.low, best.high), *rest])
    n = rows[report.run["main"], primary].n
    return "\n".join(
        [f"{split}: {n:,} queries, ranked among {_describe_candidates(report, split)}", *format_table(lines)]
    )


def render_slices(report: Report, split: str) -> str:
    """The main model in every slice, every metric with its interval, in aligned plain columns."""
    main = report.run["main"]
    rows = {(row.slice, row.metric): row for row in report.rows if row.split == split and row.model == main}
    slices, metrics = (list(dict.fromkeys(key[place] for key in rows)) for place in (0, 1))
    lines = [["slice", "queries", *metrics]]
    for name in slices:
        cells = [_format_cell(rows[name, metric]) if (name, metric) in rows else "" for metric in metrics]
        lines.append([name, f"{rows[name, metrics[0]].n:,}", *cells])
    return "\n".join([f"{main} on {split}", *format_table(lines)])


def render_markdown(report: Report) -> str:
    """The whole report; sections by split."""
    notes = [f"* {key}: {_format_value(value)}" for key, value in report.run.items() if key not in _OWN_KEYS]
    blocks = [f"# Evaluation of {report.run['main']}", "\n".join(notes)]
    for split in report.splits:
        blocks += [f"## {split}", describe_protocol(report, split), _format_overall_table(report, split)]
        blocks += [_format_verdict(report, split), "### By slice", _format_slice_table(report, split)]
        for subject in dict.fromkeys([report.run["main"], *(c.model for c in report.comparisons if c.split == split)]):
            blocks += [f"### Paired comparisons of {subject}", _format_comparison_tables(report, split, subject)]
        blocks += ["### Settings", _format_settings(report, split)]
    if "drift" in report.run:
        blocks.append(render_drift_section(DriftProfile.from_record(report.run["drift"])))
    if report.run.get("explanations"):
        blocks.append(render_faithfulness([DeletionResult.from_record(test) for test in report.run["explanations"]]))
    if private := render_privacy_section(report.run):
        blocks += ["## Privacy", private]
    if report.run["seeds"]:
        blocks += ["## Seeds", _format_seed_table(report)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def summarize_report(report: Report) -> dict[str, Any]:
    """What a bundle keeps of a report: every model over all queries, the main one in every slice, the protocol, who won
    and who lost, what is told of other domains and of a teacher, and what a drift head has learned.
    """
    main = report.run["main"]
    rows = [asdict(row) for row in report.rows if row.slice == "overall" or row.model == main]
    found: dict[str, Any] = {"main": main, "primary": report.run["primary"], "rows": rows}
    found["protocol"] = {split: describe_protocol(report, split) for split in report.splits}
    found["verdicts"] = {split: _format_verdict(report, split) for split in report.splits}
    found["told"] = {title: report.run[key] for key, title in _TOLD.items() if key in report.run}
    if "drift" in report.run:
        found["drift"] = describe_drift_head(DriftProfile.from_record(report.run["drift"]))
    if private := render_privacy_section(report.run):
        measured = {key: report.run[key] for key in ("privacy", "membership") if key in report.run}
        found["privacy"] = {"text": private} | measured
    return found


def sort_models(report: Report, split: str) -> list[str]:
    """The models of a split, best first by the primary metric over all queries."""
    rows, _ = _select_overall_rows(report, split)
    primary = report.run["primary"]
    return sorted({model for model, _ in rows}, key=lambda model: -rows[model, primary].value)


def describe_protocol(report: Report, split: str) -> str:
    """How the numbers of a split came about, in words."""
    protocol = _get_protocol(report, split)
    masked = "seen items are masked" if protocol["mask_seen"] else "seen items stay in (repeat consumption)"
    released = "; items are masked before their release date" if protocol["release_dates"] else ""
    counting = ", ".join(protocol["streaming"])
    streaming = f" During the test {counting} go on counting everyone's events; the other models stand still."
    asked = f"target of the test's first {days} days" if (days := protocol["first_days"]) else "target"
    return (
        f"Every {asked} is ranked among {_describe_candidates(report, split)}; {masked}{released}; "
        f"ties count at their mean rank. {_capitalize(_TIES[protocol['ties']])}; "
        f"{_QUERY_TIME[protocol['query_time']]}. Models are {_FITTED[protocol['fitted_on']]}. "
        f"Intervals are 95%, from {report.run['bootstrap_samples']:,} "
        f"bootstrap draws of users.{streaming if counting else ''}"
    )


def _select_overall_rows(report: Report, split: str) -> tuple[dict[tuple[str, str], MetricRow], list[str]]:
    """Rows over all queries by (model, metric), and the metrics, the primary one first."""
    rows = {(row.model, row.metric): row for row in report.rows if row.split == split and row.slice == "overall"}
    return rows, list(dict.fromkeys([report.run["primary"], *(metric for _, metric in rows)]))


def _format_overall_table(report: Report, split: str) -> str:
    rows, metrics = _select_overall_rows(report, split)
    body = [
        [_format_model(report, model), *(_format_cell(rows[model, metric]) for metric in metrics)]
        for model in sort_models(report, split)
    ]
    return format_markdown_table(["model", *metrics], body)


def _format_slice_table(report: Report, split: str) -> str:
    primary = report.run["primary"]
    rows = {(row.model, row.slice): row for row in report.rows if row.split == split and row.metric == primary}
    models = sort_models(report, split)
    slices = dict.fromkeys(name for _, name in rows)
    body = [
        [name, f"{rows[models[0], name].n:,}", *(_format_cell(rows[model, name]) for model in models)]
        for name in slices
    ]
    return f"{primary}:\n\n" + format_markdown_table(["slice", "queries", *models], body)


def _format_comparison_tables(report: Report, split: str, subject: str) -> str:
    """Every metric over all queries, then the primary one in each slice."""
    found = _sort_comparisons(report, split, subject)
    if not found:
        return "No other model was ranked."
    body = [
        [
            c.against,
            c.metric,
            f"{c.difference:+.4f}",
            _format_interval(c.low, c.high, "+"),
            _format_p_value(c),
            c.verdict,
        ]
        for c in found
        if c.slice == "overall"
    ]
    overall = format_markdown_table(["against", "metric", "difference", "95% interval", "p", f"{subject} is"], body)
    slices = {c.slice: c.n for c in found if c.slice != "overall"}
    against = list(dict.fromkeys(c.against for c in found))
    cells = {
        (c.slice, c.against): f"{c.difference:+.4f} {c.verdict}" for c in found if c.metric == report.run["primary"]
    }
    by_slice = [[name, f"{n:,}", *(cells[name, model] for model in against)] for name, n in slices.items()]
    return "\n\n".join(
        [
            overall,
            f"By slice, {report.run['primary']} of {subject} minus that of",
            format_markdown_table(["slice", "queries", *against], by_slice),
            "The p-values are not corrected for the number of comparisons.",
        ]
    )


def _sort_comparisons(report: Report, split: str, subject: str) -> list[Comparison]:
    order = {model: place for place, model in enumerate(sort_models(report, split))}
    found = (c for c in report.comparisons if (c.split, c.model) == (split, subject))
    return sorted(found, key=lambda c: order[c.against])


def _format_verdict(report: Report, split: str) -> str:
    """Plain words on the primary metric: against whom the main model wins, loses, or neither."""
    main, primary = report.run["main"], report.run["primary"]
    found = [c for c in _sort_comparisons(report, split, main) if c.metric == primary]
    overall = [c for c in found if c.slice == "overall"]
    lines = []
    for verdict, words in _VERDICTS.items():
        against = [
            f"{c.against} ({c.difference:+.4f} {_format_interval(c.low, c.high, '+')})"
            for c in overall
            if c.verdict == verdict
        ]
        if against:
            lines.append(f"* {main} {words} {', '.join(against)}.")
    lost = [c for c in found if c.verdict == "worse"]
    for model in dict.fromkeys(c.against for c in lost):
        where = ", ".join(f"{c.slice} ({-c.difference:+.4f}, {c.n:,} queries)" for c in lost if c.against == model)
        lines.append(f"* **{model} wins** in {primary} on {where}.")
    if not lost:
        lines.append(f"* No other model wins clearly in {primary}, overall or in any slice.")
    ahead = [c.against for c in overall if c.difference < 0 and c.verdict != "worse"]
    if ahead:
        lines.append(f"* Ahead of {main}, but within the interval: {', '.join(ahead)}.")
    return "\n".join(lines)


def _format_p_value(comparison: Comparison) -> str:
    return "" if comparison.p is None else f"{comparison.p:.3f}"


def _format_settings(report: Report, split: str) -> str:
    lines = []
    for model, record in report.run["settings"][split].items():
        chosen = _format_value(record["chosen"]) if "chosen" in record else _format_value(record) or "nothing to tune"
        tried = f" (best of {record['n_tried']} on validation)" if "n_tried" in record else ""
        lines.append(f"* {model}: {chosen}{tried}")
    return "\n".join(lines) or "No model recorded its settings."


def _format_seed_table(report: Report) -> str:
    body = [
        [spread["model"], spread["split"], spread["metric"], f"{spread['std']:.4f}",
         ", ".join(f"{value:.4f}" for value in spread["values"])]
        for spread in report.run["seeds"]
    ]  # fmt: skip
    return format_markdown_table(["model", "split", "metric", "standard deviation", "each seed"], body)


def format_markdown_table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _get_protocol(report: Report, split: str) -> dict[str, Any]:
    protocol: dict[str, Any] = report.run["protocol"][split]
    return protocol


def _describe_candidates(report: Report, split: str) -> str:
    protocol = _get_protocol(report, split)
    return protocol.get("candidates") or f"all {protocol['n_items']:,} items"


def _format_model(report: Report, model: str) -> str:
    return f"**{model}**" if model == report.run["main"] else model


def _format_cell(row: MetricRow) -> str:
    return f"{row.value:.4f} {_format_interval(row.low, row.high)}".strip()


def _format_interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f"[{low:{sign}.4f}, {high:{sign}.4f}]"


def _format_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_format_value(inner)}" for key, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
