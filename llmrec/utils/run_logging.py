"""Log output by the standard library's logging: for people on the console, for programs as JSON lines.

A record may carry `facts`, the fields of its JSON line, and `run`, which `run.json` stores as well. Modules log to
`logging.getLogger(__name__)` and know no handlers; recipes and commands add those.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec.utils.timing import timer

ROOT = "llmrec"
SILENCE_SECONDS = 20.0  # without a line, after which the open section is named if no terminal shows a progress bar
logger = logging.getLogger(__name__)


def add_console_handler() -> logging.Handler:
    """Log to standard error; of several processes, only the first logs more than errors.

    Where there is no terminal, the first also names the open section after each `SILENCE_SECONDS` without a line.

    Returns:
        The handler.
    """
    handler = ConsoleHandler()
    handler.setLevel(logging.INFO if _is_main_process() else logging.ERROR)
    if _is_main_process() and not handler.stream.isatty():
        handler.report_silence()
    return add_handler(handler)


def has_console_handler() -> bool:
    """Return True if records go to standard error already."""
    return any(isinstance(handler, ConsoleHandler) for handler in logging.getLogger(ROOT).handlers)


def enable_debug_output() -> None:
    """Log debug records on the console, with time and logger."""
    for handler in logging.getLogger(ROOT).handlers:
        if isinstance(handler, ConsoleHandler) and _is_main_process():
            handler.setLevel(logging.DEBUG)
            handler.setFormatter(
                logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
            )


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def add_json_file(path: Path, rank: int) -> logging.Handler:
    """Log all records as JSON lines, appended to a file.

    Args:
        path: The file; a last line that a killed run left unfinished is ended first.
        rank: Rank of this process, which each line records.

    Returns:
        The handler.
    """
    if path.is_file() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
    handler = JsonFileHandler(path, encoding="utf-8")
    handler.setFormatter(JsonFormatter(rank))
    return add_handler(handler)


def add_handler(handler: logging.Handler) -> logging.Handler:
    """Add a handler to llmrec's logger.

    Args:
        handler: The handler.

    Returns:
        The same handler.
    """
    logging.getLogger(ROOT).setLevel(logging.DEBUG)  # handlers choose
    logging.getLogger(ROOT).addHandler(handler)
    return handler


def remove_handlers(kind: type[logging.Handler]) -> None:
    """Close and remove the handlers of a kind.

    Args:
        kind: Class of the handlers.
    """
    ours = logging.getLogger(ROOT)
    for handler in [handler for handler in ours.handlers if isinstance(handler, kind)]:
        ours.removeHandler(handler)
        handler.close()
    if not ours.handlers:
        ours.setLevel(logging.NOTSET)


class JsonFormatter(logging.Formatter):
    """Formatter of a record as a line of JSON: time (ISO, UTC), level, logger, process, message, facts.

    Args:
        rank: Rank of this process.
    """

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line of JSON.

        Args:
            record: The record.

        Returns:
            The line, without a line break.
        """
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self.rank,
            "message": record.getMessage(),
        }
        content |= getattr(record, "facts", {}) | getattr(record, "run", {})
        if record.exc_info:
            content["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(content, ensure_ascii=False, default=str)


if TYPE_CHECKING:
    StreamHandler = logging.StreamHandler[Any]
else:
    StreamHandler = logging.StreamHandler  # takes no type parameter before Python 3.11


class ConsoleHandler(StreamHandler):
    """Handler that writes above a progress bar and skips records marked `for_file`."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._newest, self._ended = time.monotonic(), threading.Event()

    def report_silence(self) -> None:
        """From now on, log the open section after each `SILENCE_SECONDS` without a record, until this is closed."""
        threading.Thread(target=self._report_silence, name="llmrec-silence", daemon=True).start()

    def _report_silence(self) -> None:
        while not self._ended.wait(max(self._newest + SILENCE_SECONDS - time.monotonic(), 0.1)):
            if timer.open and time.monotonic() - self._newest >= SILENCE_SECONDS:
                logger.info("%s: still running", timer.open[-1])

    def close(self) -> None:
        """Close the handler."""
        self._ended.set()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record unless it is marked `for_file`, which Python itself shows on the console.

        Args:
            record: The record.
        """
        if getattr(record, "for_file", False):
            return
        self._newest = time.monotonic()
        if "tqdm" not in sys.modules:
            super().emit(record)
            return
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class JsonFileHandler(logging.FileHandler):
    """File handler that lets the run continue without its log if the disk is full, and reports it once."""

    reported = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is that of logging
        """Report the first failed write on standard error.

        Args:
            record: The record that could not be written.
        """
        if not self.reported:
            sys.stderr.write(f"{self.baseFilename}: records lost ({sys.exc_info()[1]}). Make room on the disk.\n")
        self.reported = True
