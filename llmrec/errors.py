"""Errors that a user can cause and fix; every message names the place, the value and the remedy."""

from __future__ import annotations

from collections.abc import Sequence


class LlmrecError(Exception):
    """Base class of errors that a user can cause and fix; `exit_code` is the status of the command."""

    exit_code = 2


class ConfigError(LlmrecError, ValueError):
    """Configuration that contradicts itself or the data."""


class DataError(LlmrecError, ValueError):
    """Log or catalog that cannot be used as it is; all problems of a source are reported at once.

    Args:
        source: Name of the source, which starts the message.
        problems: One line for each kind of problem.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{source}: {len(self.problems)} problem(s)\n{listed}")


class BackboneError(LlmrecError, ValueError):
    """Pretrained model that cannot be loaded, pooled or adapted as requested."""


class BundleError(LlmrecError, ValueError):
    """Saved recommender that is incomplete, altered or does not reproduce its own scores."""


class StorageError(LlmrecError, OSError):
    """File that cannot be written because there is no room."""


class RunInterruptedError(LlmrecError):
    """Run that was stopped by SIGTERM and can be resumed from its last checkpoint."""

    exit_code = 143  # a shell's status of a process that SIGTERM ended


class MemoryLimitError(LlmrecError, RuntimeError):
    """Work that is too large for the available memory.

    Args:
        what: Description of the work.
        settings: Settings that reduce its memory.
    """

    def __init__(self, what: str, settings: str) -> None:
        super().__init__(f"out of memory: {what}. To use less, change {settings}.")
