"""Result of a job for its caller, and the record of its outcome."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from llmrec.data.log import Log
from llmrec.errors import ConfigError, RunInterruptedError
from llmrec.evaluation.results import Report
from llmrec.runs.run_record import close_record

logger = logging.getLogger(__name__)


class JobResult(NamedTuple):
    """Report of a job and the log that it was made on."""

    report: Report
    """All numbers."""
    log: Log
    """The log."""


@contextmanager
def record_outcome() -> Iterator[None]:
    """Record the outcome of a job that Python code calls, and close the record.

    Raises:
        ConfigError: If there are other processes, each of which would make the call.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise _refuse_processes()
    status = "finished"
    try:
        yield
    except BaseException as error:
        status = "interrupted" if isinstance(error, RunInterruptedError) else f"failed: {error}"
        raise
    finally:
        logger.debug("%s", status, extra={"run": {"status": status}})
        close_record()


def require_result(result: JobResult | None) -> JobResult:
    """Return the result of a job in its only process.

    Args:
        result: Result of the job.

    Returns:
        The result.

    Raises:
        ConfigError: If this is not the first process of several.
    """
    if result is None:
        raise _refuse_processes()
    return result


def _refuse_processes() -> ConfigError:
    return ConfigError(
        "WORLD_SIZE: a call in Python runs in one process. Use `llmrec train --processes N` for several."
    )
