"""The files report.json and report.md of a run; tables and figures are derived from the JSON."""

from __future__ import annotations

import json
from pathlib import Path

from llmrec.errors import DataError
from llmrec.evaluation.results import Report
from llmrec.reports.report_markdown import render_markdown
from llmrec.utils.atomic_files import write_text_atomic
from llmrec.utils.timing import timer


@timer.section("report")
def write_report(report: Report, folder: Path, *, figures: bool = False) -> None:
    """Write report.json and report.md, each of them atomically.

    Args:
        report: All numbers of a run.
        folder: Folder of the files; created if missing.
        figures: True if report.md may show those in `figures/`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(report.to_record(), indent=1, allow_nan=False)
    write_text_atomic(folder / "report.json", content + "\n")
    write_text_atomic(folder / "report.md", render_markdown(report, figures=figures))


def read_report(path: Path) -> Report:
    """Read a report.json.

    Args:
        path: File to read.

    Returns:
        All numbers of a run.

    Raises:
        DataError: If there is no such file, or it is not a report of this version.
    """
    try:
        return Report.from_record(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:  # undecodable text is a ValueError
        raise DataError(str(path), [f"not a report ({error}); expected the report.json of a run"]) from error
