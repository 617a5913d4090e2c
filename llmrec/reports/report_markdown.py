"""The text of report.md: the result on one page, and everything else folded below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrec.drift.profile import DriftProfile
from llmrec.evaluation.deletion_test import DeletionResult
from llmrec.evaluation.metric_rows import format_interval
from llmrec.evaluation.model_rows import FROZEN, ModelRow
from llmrec.evaluation.results import Report
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.reports.drift_text import render_drift_section
from llmrec.reports.faithfulness_text import render_faithfulness
from llmrec.reports.privacy_text import render_privacy_section
from llmrec.reports.report_text import (
    VERDICTS,
    describe_candidates,
    describe_protocol,
    format_cell,
    format_markdown_table,
    format_verdicts,
    select_overall_rows,
    sort_comparisons,
    sort_models,
)

MAX_OPENING_ROWS = 6
MAX_NAMED = 3
MAKING = ("read", "fit", "adapt", "baselines")  # phases that make a model
WEEKLY_FIGURE = "drift_weeks.png"


def render_markdown(report: Report, *, figures: bool = False) -> str:
    """Render report.md: three sentences, one table and one figure; the rest is folded.

    Args:
        report: All numbers of a run.
        figures: True if the folder `figures/` is next to the report.

    Returns:
        Markdown.
    """
    split = report.splits[0]
    blocks = [f"# {report.part(split).headline}", _render_opening(report, split), _render_best(report, split)]
    if figures:
        blocks.append("![NDCG by model, with 95% intervals](figures/ndcg_by_model.png)")
    blocks += [_fold(f"All results on {name}", _render_split(report, name)) for name in report.splits]
    if report.run.drift is not None:
        drift = render_drift_section(DriftProfile.from_record(dict(report.run.drift)))
        weekly = f"![NDCG@10 by week after the cutoff](figures/{WEEKLY_FIGURE})\n\n" if _has_weeks(report) else ""
        blocks.append(_fold("Preferences that move", (weekly if figures else "") + drift))
    if report.run.explanations:
        tests = [DeletionResult.from_record(dict(test)) for test in report.run.explanations]
        blocks.append(_fold("Explanations, tested", render_faithfulness(tests)))
    if private := render_privacy_section(report.run):
        blocks.append(_fold("Privacy", f"## Privacy\n\n{private}"))
    if any(part.seeds for part in report.parts):
        blocks.append(_fold("Seeds", "## Seeds\n\n" + _format_seed_table(report)))
    blocks.append(_fold("How this run was made", render_run(report.run)))
    return "\n\n".join(block for block in blocks if block) + "\n"


def render_run(run: RunMetadata) -> str:
    """Render the facts of a run as a list, and the time of each phase as a table.

    Args:
        run: Command, machine, versions, log, seeds and phases; empty fields are left out.

    Returns:
        Markdown.
    """
    facts: dict[str, Any] = {
        "command": f"`{run.command}`" if run.command else "",
        "commit": run.commit,
        "machine": run.machine,
        "processes": run.processes,
        "threads": run.threads,
        "precision": run.precision,
        "versions": run.versions,
        "minutes": run.minutes or "",
        "log": run.data,
        "sources": "; ".join(str(source["source"]) for source in run.sources),
        "share of the target's users": run.share,
        "seeds": run.seeds,
        "bundle": run.bundle,
        "note": run.note,
        "first stage": run.first_stage,
        "targets among the candidates": run.targets_among_candidates,
        "CPU seconds per query": run.cpu_seconds_per_query,
    }
    lines = [f"* {name}: {format_value(value)}" for name, value in facts.items() if value not in (None, "", {}, ())]
    phases = [
        [phase["phase"], phase["of"] or "", f"{phase['wall']:.1f}", f"{phase['cpu']:.1f}", f"{phase['peak_mib']:,}"]
        for phase in run.phases
        if "/" not in phase["phase"]
    ]
    table = format_markdown_table(["phase", "of", "seconds", "CPU seconds", "peak MiB"], phases) if phases else ""
    return "\n\n".join(block for block in ("## Run", "\n".join(lines), table) if block)


def format_value(value: Any) -> str:
    """Format a setting without quotes and brackets.

    Args:
        value: Mapping, sequence or scalar, nested or not.

    Returns:
        Text on one line.

    Example:
        >>> format_value({"epochs": 3, "rates": (0.1, 0.25), "refit": False, "prior": None})
        'epochs 3, rates 0.1 0.25, refit no, prior none'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(format_value, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _render_opening(report: Report, split: str) -> str:
    part, run = report.part(split), report.run
    row = select_overall_rows(report, split)[0][part.headline, report.primary]
    interval = f" {format_interval(row.low, row.high)}" if row.low is not None else ""
    first = (
        f"**{part.headline}** reaches {report.primary} {row.value:.4f}{interval} on {row.n:,} test queries of "
        f"{split}, ranked among {describe_candidates(report, split)}."
    )
    third = run.adaptation.get(split) or run.transfer or run.distillation
    if not third and part.headline.kind != "rerank":
        third = "This row is the model that the bundle answers with."
    if not third:
        third = "Nothing was trained for this row."
    if not third.startswith("llmrec"):  # the one name that keeps its case
        third = third[:1].upper() + third[1:]
    return " ".join([first, _summarize_verdicts(report, split), f"{third.rstrip('.')}."])


def _summarize_verdicts(report: Report, split: str) -> str:
    """Say in one sentence which models the headline beats."""
    found = [
        c
        for c in sort_comparisons(report, split, report.part(split).headline)
        if (c.slice, c.metric) == ("overall", report.primary)
    ]
    parts = []
    for verdict, words in VERDICTS.items():
        if names := [c.against.name for c in found if c.verdict == verdict]:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            parts.append(f"{words} {', '.join(names[:MAX_NAMED])}{more}")
    return f"It {'; it '.join(parts)}." if parts else "No other model was ranked."


def _render_best(report: Report, split: str) -> str:
    """Return the headline and the best of the others, at most six rows."""
    models, headline = sort_models(report, split), report.part(split).headline
    others = [model for model in models if model != headline][: MAX_OPENING_ROWS - 1]
    return _format_overall_table(report, split, [model for model in models if model == headline or model in others])


def _render_split(report: Report, split: str) -> str:
    part = report.part(split)
    blocks = [f"## {split}", describe_protocol(report, split)]
    blocks += [_format_overall_table(report, split, sort_models(report, split)), format_verdicts(report, split)]
    blocks += ["### By slice", _format_slice_table(report, split)]
    for subject in dict.fromkeys([part.headline, *(c.model for c in part.comparisons)]):
        blocks += [f"### Paired comparisons of {subject}", _format_comparison_tables(report, split, subject)]
    return "\n\n".join([*blocks, "### Settings", _format_settings(part.settings)])


def _fold(title: str, content: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{content}\n\n</details>"


def _has_weeks(report: Report) -> bool:
    return any(part.weekly for part in report.parts)


def _format_overall_table(report: Report, split: str, models: Sequence[ModelRow]) -> str:
    rows, metrics = select_overall_rows(report, split)
    headline = report.part(split).headline
    minutes = {model: compute_cpu_minutes(report.run, model) for model in models}
    cost = ["CPU min"] if any(minutes.values()) else []
    body = [
        [
            f"**{model}**" if model == headline else model.name,
            *(format_cell(rows[model, metric]) for metric in metrics),
            *(f"{minutes[model]:.1f}" if minutes[model] else "" for _ in cost),
        ]
        for model in models
    ]
    return format_markdown_table(["model", *metrics, *cost], body)


def compute_cpu_minutes(run: RunMetadata, model: ModelRow) -> float:
    """Compute the CPU time that reading, fitting and adapting a model took, over all splits and seeds of a run.

    The catalog is read once for all rows of a text backbone, and counts for each; an adapted row begins with the fit of
    the frozen one, which counts for both.

    Args:
        run: Facts of the run, with its phases.
        model: Row of the report.

    Returns:
        Minutes of all threads of the main process; 0 where they were not measured by themselves.
    """
    own: set[tuple[str, str | None]] = {(phase, model.name) for phase in MAKING}
    if model.kind == "baseline":
        own.add(("baselines", model.strategy))
    if model.kind == "llmrec" and model.strategy != "none":
        own |= {("read", None), ("fit", FROZEN.name)}
    return float(sum(phase["cpu"] for phase in run.phases if (phase["phase"], phase["of"]) in own)) / 60


def _format_slice_table(report: Report, split: str) -> str:
    rows = {(row.model, row.slice): row for row in report.part(split).rows if row.metric == report.primary}
    models = sort_models(report, split)
    slices = dict.fromkeys(name for _, name in rows)
    body = [
        [name, f"{rows[models[0], name].n:,}", *(format_cell(rows[model, name]) for model in models)] for name in slices
    ]
    head = ["slice", "queries", *(model.name for model in models)]
    return f"{report.primary}:\n\n" + format_markdown_table(head, body)


def _format_comparison_tables(report: Report, split: str, subject: ModelRow) -> str:
    """Return every metric over all queries, then the primary one in each slice."""
    found = sort_comparisons(report, split, subject)
    if not found:
        return "No other model was ranked."
    body = [
        [
            c.against.name,
            c.metric,
            f"{c.difference:+.4f}",
            format_interval(c.low, c.high, sign="+"),
            "" if c.p is None else f"{c.p:.3f}",
            c.verdict,
        ]
        for c in found
        if c.slice == "overall"
    ]
    overall = format_markdown_table(["against", "metric", "difference", "95% interval", "p", f"{subject} is"], body)
    slices = {c.slice: c.n for c in found if c.slice != "overall"}
    against = list(dict.fromkeys(c.against for c in found))
    cells = {(c.slice, c.against): f"{c.difference:+.4f} {c.verdict}" for c in found if c.metric == report.primary}
    by_slice = [[name, f"{n:,}", *(cells[name, model] for model in against)] for name, n in slices.items()]
    return "\n\n".join(
        [
            overall,
            f"By slice, {report.primary} of {subject} minus that of",
            format_markdown_table(["slice", "queries", *(model.name for model in against)], by_slice),
            "The p-values are not corrected for the number of comparisons.",
        ]
    )


def _format_settings(settings: Mapping[str, Any]) -> str:
    lines = []
    for model, record in settings.items():
        chosen = format_value(record["chosen"]) if "chosen" in record else format_value(record) or "nothing to tune"
        tried = f" (best of {record['n_tried']} on validation)" if "n_tried" in record else ""
        lines.append(f"* {model}: {chosen}{tried}")
    return "\n".join(lines) or "No model recorded its settings."


def _format_seed_table(report: Report) -> str:
    body = [
        [
            spread.model,
            spread.split,
            spread.metric,
            f"{spread.std:.4f}",
            ", ".join(f"{value:.4f}" for value in spread.values),
        ]
        for part in report.parts
        for spread in part.seeds
    ]
    return format_markdown_table(["model", "split", "metric", "standard deviation", "each seed"], body)
