"""Tables, verdicts and protocols of a report, as aligned columns or as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llmrec.drift.profile import DriftProfile
from llmrec.evaluation.metric_rows import Comparison, MetricRow, Verdict, format_interval
from llmrec.evaluation.model_rows import ModelRow
from llmrec.evaluation.results import Report
from llmrec.reports.drift_text import describe_drift_head
from llmrec.reports.privacy_text import render_privacy_section
from llmrec.utils.text import format_table

_FITTED = {
    "train": "fitted on the training part alone",
    "train+validation": "refitted on training and validation together, with settings chosen before",
}
_QUERY_TIME = {
    "known": "the model is given the time of the target",
    "last_event": "the model is given the time of the last event only, not when the target happens",
}
_TIES = {
    "strict": "histories hold the events strictly before the query's time, so that events of the same time are in none "
    "of each other's",
    "file_order": "histories hold the events before the target in the file's order, those of the same time included "
    "(the papers' habit)",
}
VERDICTS: dict[Verdict, str] = {
    "better": "is better than",
    "no clear difference": "shows no clear difference from",
    "worse": "is worse than",
}


def render_table(report: Report, split: str) -> str:
    """Render all models on all queries of a split in aligned columns, best first.

    Args:
        report: All numbers of a run.
        split: Name of the split.

    Returns:
        Plain text; a star marks the headline.
    """
    part = report.part(split)
    n = next(
        row.n for row in part.rows if (row.model, row.metric, row.slice) == (part.headline, report.primary, "overall")
    )
    title = f"{split}: {n:,} queries, ranked among {describe_candidates(report, split)}; * answers in the bundle"
    return "\n".join([title, *format_table(part.to_table(report.primary))])


def render_slices(report: Report, split: str) -> str:
    """Render the headline model in every slice, every metric with its interval, in aligned columns.

    Args:
        report: All numbers of a run.
        split: Name of the split.

    Returns:
        Plain text.
    """
    part = report.part(split)
    rows = {(row.slice, row.metric): row for row in part.rows if row.model == part.headline}
    slices, metrics = (list(dict.fromkeys(key[index] for key in rows)) for index in (0, 1))
    lines = [["slice", "queries", *metrics]]
    for name in slices:
        cells = [format_cell(rows[name, metric]) if (name, metric) in rows else "" for metric in metrics]
        lines.append([name, f"{rows[name, metrics[0]].n:,}", *cells])
    return "\n".join([f"{part.headline} on {split}", *format_table(lines)])


def summarize_report(report: Report) -> dict[str, Any]:
    """Return the part of a report that a bundle keeps for its card.

    Args:
        report: All numbers of a run.

    Returns:
        Every model over all queries, the headline in every slice, protocols, verdicts, the reason for keeping adapted
        weights or not, and any sections on other domains, a teacher, a drift head and privacy.
    """
    headlines = {part.split: part.headline for part in report.parts}
    rows = [row for row in report.rows if row.slice == "overall" or row.model == headlines[row.split]]
    first = next(row.model for row in rows if row.model == report.parts[0].headline)  # with its seed
    found: dict[str, Any] = {"main": first.name, "row": first.to_record(), "primary": report.primary}
    found["headlines"] = {split: headline.name for split, headline in headlines.items()}
    found["rows"] = [row.to_record() for row in rows]
    found["protocol"] = {split: describe_protocol(report, split) for split in report.splits}
    found["verdicts"] = {split: format_verdicts(report, split) for split in report.splits}
    found["adaptation"] = dict(report.run.adaptation)
    sections = {
        "What other domains were worth": report.run.transfer,
        "What is left of the teacher": report.run.distillation,
    }
    found["sections"] = {title: text for title, text in sections.items() if text}
    if report.run.drift is not None:
        found["drift"] = describe_drift_head(DriftProfile.from_record(dict(report.run.drift)))
    if private := render_privacy_section(report.run):
        found["privacy"] = {"text": private, "privacy": report.run.privacy, "membership": list(report.run.membership)}
    return found


def sort_models(report: Report, split: str) -> list[ModelRow]:
    """Return the models of a split, best first by the primary metric over all queries.

    Args:
        report: All numbers of a run.
        split: Name of the split.

    Returns:
        Models, each once.
    """
    rows, _ = select_overall_rows(report, split)
    return sorted({model: None for model, _ in rows}, key=lambda model: -rows[model, report.primary].value)


def describe_protocol(report: Report, split: str) -> str:
    """Describe in words how the numbers of a split were measured.

    Args:
        report: All numbers of a run.
        split: Name of the split.

    Returns:
        Sentences on candidates, ties, query time, training data and intervals.
    """
    protocol = report.part(split).protocol
    masked = "seen items are masked" if protocol.mask_seen else "seen items stay in (repeat consumption)"
    released = "; items are masked before their release date" if protocol.release_dates else ""
    streaming = ""
    if protocol.streaming:
        names = "; ".join(protocol.streaming)
        streaming = f" The counts of these models are updated during the test: {names}. The others are static."
    targets = f"target of the test's first {protocol.first_days} days" if protocol.first_days else "target"
    ties = _TIES[protocol.ties]
    return (
        f"Every {targets} is ranked among {describe_candidates(report, split)}; {masked}{released}; "
        f"ties count at their mean rank. {ties[:1].upper()}{ties[1:]}; {_QUERY_TIME[protocol.query_time]}. "
        f"Models are {_FITTED[protocol.fitted_on]}. "
        f"Intervals are 95%, from {report.bootstrap_samples:,} bootstrap draws of users.{streaming}"
    )


def describe_candidates(report: Report, split: str) -> str:
    """Describe the items that a target is ranked among.

    Args:
        report: All numbers of a run.
        split: Name of the split.

    Returns:
        Noun phrase, such as "all 1,682 items".
    """
    protocol = report.part(split).protocol
    return protocol.candidates or f"all {protocol.n_items:,} items"


def select_overall_rows(report: Report, split: str) -> tuple[dict[tuple[ModelRow, str], MetricRow], list[str]]:
    """Select the rows over all queries of a split.

    Args:
        report: All numbers of a run.
        split: Name of the split.

    Returns:
        Rows by model and metric, and the metrics, the primary one first.
    """
    rows = {(row.model, row.metric): row for row in report.part(split).rows if row.slice == "overall"}
    return rows, list(dict.fromkeys([report.primary, *(metric for _, metric in rows)]))


def sort_comparisons(report: Report, split: str, subject: ModelRow) -> list[Comparison]:
    """Return the comparisons of a model, those with the best of the others first.

    Args:
        report: All numbers of a run.
        split: Name of the split.
        subject: Model that is compared with the others.

    Returns:
        Comparisons in all metrics and slices.
    """
    order = {model: index for index, model in enumerate(sort_models(report, split))}
    found = (c for c in report.part(split).comparisons if c.model == subject)
    return sorted(found, key=lambda c: order[c.against])


def format_verdicts(report: Report, split: str) -> str:
    """List the models that the headline beats or loses to in the primary metric, overall and by slice.

    Args:
        report: All numbers of a run.
        split: Name of the split.

    Returns:
        Markdown list.
    """
    main, primary = report.part(split).headline, report.primary
    found = [c for c in sort_comparisons(report, split, main) if c.metric == primary]
    overall = [c for c in found if c.slice == "overall"]
    lines = []
    for verdict, words in VERDICTS.items():
        against = [
            f"{c.against} ({c.difference:+.4f} {format_interval(c.low, c.high, sign='+')})"
            for c in overall
            if c.verdict == verdict
        ]
        if against:
            lines.append(f"* {main} {words} {'; '.join(against)}.")
    lost = [c for c in found if c.verdict == "worse"]
    for model in dict.fromkeys(c.against for c in lost):
        where = ", ".join(f"{c.slice} ({-c.difference:+.4f}, {c.n:,} queries)" for c in lost if c.against == model)
        lines.append(f"* **{model} wins** in {primary} on {where}.")
    if not lost:
        lines.append(f"* No other model wins clearly in {primary}, overall or in any slice.")
    ahead = [c.against.name for c in overall if c.difference < 0 and c.verdict != "worse"]
    if ahead:
        lines.append(f"* Ahead of {main}, but within the interval: {'; '.join(ahead)}.")
    return "\n".join(lines)


def format_markdown_table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Format a table in Markdown.

    Args:
        head: Names of the columns.
        body: Cells of each row.

    Returns:
        Markdown.
    """
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def format_cell(row: MetricRow) -> str:
    """Format a value with its interval.

    Args:
        row: Value of a metric.

    Returns:
        Value and interval with four decimals each.
    """
    return f"{row.value:.4f} {format_interval(row.low, row.high)}".strip()
