"""report.json and report.md in a run's folder. The JSON is the record; tables and figures are made from it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from llmrec.errors import DataError
from llmrec.evaluation.results import MetricRow, Report
from llmrec.reports.report_text import render_markdown
from llmrec.utils.atomic_files import write_text_atomic
from llmrec.utils.timing import timer


@timer.section("report")
def write_report(report: Report, folder: Path) -> None:
    """Writes `report.json` = {"rows": [...], "run": {...}} and `report.md`; each is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"rows": [asdict(row) for row in report.rows], "run": report.run}
    write_text_atomic(folder / "report.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text_atomic(folder / "report.md", render_markdown(report))


def read_report(path: Path) -> Report:
    """The report of a `report.json`.

    Raises:
        DataError: there is no such file, or it is no report.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Report(tuple(MetricRow(**row) for row in content["rows"]), content["run"])
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(str(path), [f"not a report ({error}); expected the report.json of a run"]) from error
