"""What llmrec tells of its work, by the standard library's logging: for people on the console, for programs as JSON
lines in the run's folder.

A record may carry `facts`, which are fields of its JSON line, and `run`, which `run.json` keeps as well. Modules log to
`logging.getLogger(__name__)` and know of no handler; those are for recipes and commands to open.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = "llmrec"
logger = logging.getLogger(__name__)
_within: ContextVar[tuple[str, ...]] = ContextVar("phases", default=())


@contextmanager
def phase(name: str, of: str | None = None) -> Iterator[None]:
    """A part of a run, timed: `with phase("load"):`, or over a function as `@phase("load")`. Within another one it is
    told as `fit/checkpoint`. of: what it is about, such as a model's name.
    """
    outer = _within.set((*_within.get(), name))
    path, began = "/".join(_within.get()), time.monotonic()
    about = {"phase": path} | ({} if of is None else {"of": of})
    shown = path if of is None else f"{path} of {of}"
    logger.debug("%s begins", shown, extra={"facts": about})
    try:
        yield
    except BaseException as error:
        seconds = round(time.monotonic() - began, 3)
        facts = about | {"seconds": seconds, "failed": type(error).__name__}
        logger.debug("%s ended by %s after %.3f s", shown, type(error).__name__, seconds, extra={"facts": facts})
        raise
    else:
        seconds = round(time.monotonic() - began, 3)
        logger.debug("%s took %.3f s", shown, seconds, extra={"facts": about | {"seconds": seconds}})
    finally:
        _within.reset(outer)


def add_console_handler() -> logging.Handler:
    """Tell on the error stream what is going on. Of several processes only the first one tells more than its errors."""
    handler = ConsoleHandler()
    handler.setLevel(logging.INFO if _is_main_process() else logging.ERROR)
    return add_handler(handler)


def enable_debug_output() -> None:
    """On the console, with times and where it comes from."""
    for handler in logging.getLogger(ROOT).handlers:
        if isinstance(handler, ConsoleHandler) and _is_main_process():
            handler.setLevel(logging.DEBUG)
            handler.setFormatter(
                logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
            )


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def add_json_file(path: Path, rank: int) -> logging.Handler:
    """Everything as JSON lines at the end of the file, whose last line a killed run may have left unfinished."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
    handler = JsonFileHandler(path, encoding="utf-8")
    handler.setFormatter(JsonFormatter(rank))
    return add_handler(handler)


def add_handler(handler: logging.Handler) -> logging.Handler:
    logging.getLogger(ROOT).setLevel(logging.DEBUG)  # handlers choose
    logging.getLogger(ROOT).addHandler(handler)
    return handler


def remove_handlers(kind: type[logging.Handler]) -> None:
    """Close the handlers of a kind that a run has opened."""
    ours = logging.getLogger(ROOT)
    for handler in [handler for handler in ours.handlers if isinstance(handler, kind)]:
        ours.removeHandler(handler)
        handler.close()
    if not ours.handlers:
        ours.setLevel(logging.NOTSET)


class JsonFormatter(logging.Formatter):
    """A record as one line: time (ISO, UTC), level, logger, process, message, and its facts."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def format(self, record: logging.LogRecord) -> str:
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
    StreamHandler = logging.StreamHandler  # which takes no type before Python 3.11


class ConsoleHandler(StreamHandler):
    """Above a progress bar, where there is one; without what is `for_file`, which Python tells there by itself."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "for_file", False):
            return
        if "tqdm" not in sys.modules:
            super().emit(record)
            return
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class JsonFileHandler(logging.FileHandler):
    """Where the disk is full, the run goes on without its log, and says so once."""

    told = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.told:
            print(f"{self.baseFilename}: {sys.exc_info()[1]}; the log has a gap", file=sys.stderr)
        self.told = True
