"""End of a command after an error: one message and an exit status instead of a traceback."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from llmrec.errors import LlmrecError

FAULT, INTERRUPTED = 1, 130  # exit statuses; errors that a user can fix have their own


@contextmanager
def exit_with_message(program: str) -> Iterator[None]:
    """End the process with one message and an exit status if an error is raised inside.

    The status is 2 for errors that the user can fix, and 1 for refusals of the machine (no room, no permission, no
    memory)
    and for internal errors, whose traceback is written to a file that the message names.

    Args:
        program: Name of the program, which starts the message.

    Raises:
        SystemExit: With the exit status.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a character shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except LlmrecError as error:
        _exit(program, str(error), error.exit_code)
    except KeyboardInterrupt:
        _exit(program, "interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAULT) from None
    except MemoryError as error:
        _exit(program, f"out of memory ({error}). Use less data at a time, or a larger machine.", FAULT)
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        reason = error.strerror.lower() if error.strerror else error
        _exit(program, f"{place}{reason}. Fix the cause or choose another path.", FAULT)
    except Exception as error:
        report = f"Internal error. Please report it with the traceback in {_write_traceback()}."
        _exit(program, f"{type(error).__name__}: {error}\n{report}", FAULT)


def _write_traceback() -> str:
    """Write the traceback of the current exception to a file, and return its name."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="llmrec-fault-", suffix=".txt", encoding="utf-8", errors="backslashreplace", delete=False
    ) as file:
        file.write(traceback.format_exc())
    return file.name


def _exit(program: str, message: str, status: int) -> None:
    sys.stderr.write(f"{program}: {message}\n")
    raise SystemExit(status) from None
