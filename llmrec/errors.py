"""What can go wrong by a user's hand. Every message names the value, the place and the remedy."""

from __future__ import annotations

from collections.abc import Sequence


class LlmrecError(Exception):
    """Base of every error that a user can cause and mend. exit_code: of a command that ends with it."""

    exit_code = 2


class ConfigError(LlmrecError, ValueError):
    """A configuration that contradicts itself or the data."""


class DataError(LlmrecError, ValueError):
    """A log or catalog that cannot be used as it is.

    All problems of a source are reported at once; `problems` holds one line for each kind.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{source}: {len(self.problems)} problem(s)\n{listed}")


class BackboneError(LlmrecError, ValueError):
    """A pretrained model that cannot be loaded, pooled or adapted as asked."""


class BundleError(LlmrecError, ValueError):
    """A saved recommender that is incomplete, altered, or does not reproduce its own scores."""


class StorageError(LlmrecError, OSError):
    """A file that cannot be written for want of room."""


class RunInterruptedError(LlmrecError):
    """A run that was told to end (SIGTERM) and can be gone on with; what it had done is saved."""

    exit_code = 143  # what a shell tells of a process that SIGTERM ended


class MemoryLimitError(LlmrecError, RuntimeError):
    """Work that is too large for the memory there is. what: that did not fit; knobs: settings that make it smaller."""

    def __init__(self, what: str, knobs: str) -> None:
        super().__init__(f"out of memory: {what}. What takes less: {knobs}")
