"""Errors that a user can cause and fix; every message names the place, the value and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


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


def missing_extra(name: str) -> str:
    """Return how to install an extra, as the end of a message.

    Args:
        name: Extra of pyproject.toml, such as `serve`.

    Returns:
        A sentence with a command that works where llmrec was installed from: a clone, a file, a repository or an index.
    """
    return f"Run pip install {_get_requirement(name)}"


def _get_requirement(extra: str) -> str:
    """Return the argument of `pip install` that adds an extra to the installed package."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    clone = Path(__file__).resolve().parents[1]
    if (clone / "pyproject.toml").is_file():
        return f"-e '{clone}[{extra}]'"
    try:
        origin = json.loads(distribution("llmrec").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    if not origin:
        return f"'llmrec[{extra}]'"
    vcs = origin.get("vcs_info")
    url = f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}" if vcs else origin["url"]
    return f"'llmrec[{extra}] @ {url}'"
