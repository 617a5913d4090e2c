"""Result of a job for its caller, besides what is in the output folder."""

from __future__ import annotations

from typing import NamedTuple

from llmrec.data.log import Log
from llmrec.evaluation.results import Report


class JobResult(NamedTuple):
    """Report of a job and the log that it was made on."""

    report: Report
    """All numbers."""
    log: Log
    """The log."""
