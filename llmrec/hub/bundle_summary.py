"""Summary of a bundle for people: data, model, unit of scores and test result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.utils.html import format_html_table

if TYPE_CHECKING:
    from llmrec.hub.bundle import Bundle


def summarize_bundle(bundle: Bundle) -> dict[str, str]:
    """Summarize a bundle.

    Args:
        bundle: The bundle.

    Returns:
        Facts by name, each in one line.
    """
    config, facts = bundle.config, bundle.facts
    found = {
        "log": f"{facts['source']}, {_count(facts, 'n_events')} events by {_count(facts, 'n_users')} users",
        "items": f"{len(bundle.catalog):,}, text {bundle.catalog.template!r}",
        "backbone": "none, items are known by id alone",
        "histories": config.model.history_encoder,
        "drift head": "none, scores are logits (differences are log-odds)",
    }
    if bundle.base is not None:
        found["backbone"] = f"{bundle.base.hub_id}, {config.backbone.strategy}"
    if bundle.drift is not None and config.drift is not None:
        terms = ", ".join(config.drift.terms)
        found["drift head"] = f"{terms}; scores are log-probabilities of being next"
    if test := _describe_test(bundle):
        found["test"] = test
    return found


def format_summary(folder: Path, bundle: Bundle) -> str:
    """Format the summary of a bundle in use as text.

    Args:
        folder: Folder of the bundle.
        bundle: The bundle.

    Returns:
        A line for each fact.
    """
    rows = {"Recommender": str(folder)} | summarize_bundle(bundle)
    return "\n".join(f"{name:<11}  {value}" for name, value in rows.items())


def format_summary_html(folder: Path, bundle: Bundle) -> str:
    """Format the summary of a bundle in use for a notebook.

    Args:
        folder: Folder of the bundle.
        bundle: The bundle.

    Returns:
        A table in HTML.
    """
    return format_html_table([["Recommender", str(folder)], *map(list, summarize_bundle(bundle).items())])


def _count(facts: dict[str, object], name: str) -> str:
    value = facts.get(name)
    return f"{value:,}" if isinstance(value, int) else "?"


def _describe_test(bundle: Bundle) -> str:
    """Return the primary metric of the model that the bundle answers with, over all queries of its first split."""
    found = bundle.evaluation
    for row in found.get("rows", ()):
        if (row["model"], row["metric"], row["slice"]) == (found["main"], found["primary"], "overall"):
            interval = "" if row["low"] is None else f", 95% interval {row['low']:.4f} to {row['high']:.4f}"
            return f"{row['metric']} {row['value']:.4f} ({row['split']}, {row['n']:,} queries{interval})"
    return ""
