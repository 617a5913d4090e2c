"""Run a job with the configuration of the command line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from llmrec.config.loader import Config, parse_config
from llmrec.errors import LlmrecError, RunInterruptedError
from llmrec.utils.exit_status import exit_with_message
from llmrec.utils.folder_lock import unlock
from llmrec.utils.run_logging import ConsoleHandler, add_console_handler, has_console_handler, remove_handlers

logger = logging.getLogger(__name__)


def run_job(
    main: Callable[[Config], object],
    kind: type[Config],
    *,
    arguments: Sequence[str] | None = None,
    program: str | None = None,
) -> None:
    """Run a job with the configuration of the command line; an error ends it with one message.

    Args:
        main: The job.
        kind: Dataclass of its configuration.
        arguments: Settings; None for the arguments of the process.
        program: Name that starts a message; None for the name of the script.

    Raises:
        SystemExit: If the job fails, with a status as of `exit_with_message`.
    """
    if not has_console_handler():
        add_console_handler()
    name = program or Path(sys.argv[0]).name
    with exit_with_message(name):
        try:
            main(parse_config(kind, arguments, description=kind.__doc__))
            logger.debug("finished", extra={"run": {"status": "finished"}})
        except LlmrecError as error:
            status = "interrupted" if isinstance(error, RunInterruptedError) else f"failed: {error}"
            logger.error("%s: %s", name, error, extra={"run": {"status": status}})
            raise SystemExit(error.exit_code) from None
        except BaseException as error:  # a bug of llmrec, or an interruption by the user
            ended = {"status": f"failed: {type(error).__name__}: {error}"}
            logger.critical("failed", exc_info=True, extra={"run": ended, "for_file": True})
            raise
        finally:
            remove_handlers(ConsoleHandler)
            unlock()
