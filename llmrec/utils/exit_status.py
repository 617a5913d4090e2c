"""How a command ends when something is wrong: in one message and an exit status, not in a traceback."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from llmrec.errors import LlmrecError

FAULT, INTERRUPTED = 1, 130  # exit statuses; what a user can mend has its own


@contextmanager
def exit_with_message(program: str) -> Iterator[None]:
    """What is raised within ends the process: status 2 for what a user can mend, 1 for what the machine refuses (no
    room, no permission, no memory) and for faults of llmrec's own, whose traceback goes to a file that is named.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a sign shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except LlmrecError as error:
        _exit(program, str(error), error.exit_code)
    except KeyboardInterrupt:
        _exit(program, "interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever reads, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAULT) from None
    except MemoryError as error:
        _exit(program, f"out of memory ({error}); give less data at a time, or a larger machine", FAULT)
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        _exit(program, f"{place}{error.strerror or error}; make it possible, or give another place", FAULT)
    except Exception as error:
        _exit(
            program, f"{type(error).__name__}: {error}\nThis is a fault of llmrec; report {_write_traceback()}", FAULT
        )


def _write_traceback() -> str:
    """The name of a file with the traceback of what is being handled."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="llmrec-fault-", suffix=".txt", encoding="utf-8", errors="backslashreplace", delete=False
    ) as file:
        file.write(traceback.format_exc())
    return file.name


def _exit(program: str, message: str, status: int) -> None:
    print(f"{program}: {message}", file=sys.stderr)
    raise SystemExit(status) from None
