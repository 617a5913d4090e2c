"""End a run: write its report, figures and bundle, and print its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrec.evaluation.results import Report
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.hub.layout import check_destination
from llmrec.reports.figures import write_figures
from llmrec.reports.report_files import write_report
from llmrec.reports.report_text import render_table, summarize_report

BUNDLE = "bundle"  # folder in the run folder


def check_output(folder: Path) -> None:
    """Check that a run may write its bundle, before it trains.

    Args:
        folder: Run folder.

    Raises:
        BundleError: If something other than a bundle is in its place.
    """
    check_destination(folder / BUNDLE)


def finish(
    report: Report,
    bundle: Bundle | None,
    folder: Path,
    *,
    training: Sequence[Mapping[str, Any]] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the results of a run into its folder, and print its tables.

    Args:
        report: All numbers of the run.
        bundle: The trained model, which gets the report's summary; None for a run that trains none.
        folder: Run folder.
        training: A point for each measurement of a fit, for the figure of training; None for a run without figures.
        notes: Sentences that are printed below the tables.
    """
    write_report(report, folder, figures=training is not None)
    written = ["report.md", "report.json"]
    if training is not None:
        write_figures(report, folder / "figures", training=training)
        written.append("figures/")
    if bundle is not None:
        save_bundle(folder / BUNDLE, replace(bundle, evaluation=summarize_report(report)))
        written.append(f"{BUNDLE}/")
    for split in report.splits:
        print_results("", render_table(report, split))
    print_results("", *notes, f"{folder}: {', '.join(written)} ({report.run.minutes} minutes)")


def print_results(*lines: str) -> None:
    """Print results of a run on standard output.

    Args:
        lines: Lines or blocks of text.
    """
    print(*lines, sep="\n", flush=True)
