"""Settings of a service and limits of its requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmrec.errors import ConfigError


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one request; a larger one is refused with a problem that names the limit."""

    body_bytes: int = 1 << 20
    """Bytes of a request body."""
    history: int = 1000
    """Events of a history."""
    batch: int = 256
    """Queries, events or items in one request."""
    items: int = 1000
    """Items that one query scores."""
    text: int = 4000
    """Characters of a text or field."""
    k: int = 1000
    """Items to recommend."""
    waiting: int = 2000
    """Requests that may wait; more are refused with status 503 and Retry-After."""
    read_seconds: float = 10.0
    """Seconds in which each part of a body must arrive."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ConfigError(f"limits.{name}={value}: must be above 0")


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of a service."""

    api_key: str | None = None
    """API key that clients must send, except to /health and /openapi.json; None for an open service."""
    snapshots: Path | None = None
    """Folder of saved states to start from; None keeps no snapshots."""
    snapshot_every: int = 10_000
    """Events between two snapshots."""
    max_wait_ms: float = 2.0
    """Milliseconds that a request waits for others to be answered with it."""
    most_together: int = 64
    """Requests in a batch at most."""
    threads: int | None = None
    """Threads of torch; None leaves its default."""
    page: bool = False
    """Serve the demo page, which shows users and their histories."""
    hosts: tuple[str, ...] = ()
    """Host names that requests may address; empty allows any."""
    limits: RequestLimits = RequestLimits()
    """Limits of one request."""

    def __post_init__(self) -> None:
        if self.api_key is not None and not self.api_key.strip():
            raise ConfigError("api_key: empty; give a secret, or none for a service that is open to all who reach it")
        if self.page and self.api_key is not None:
            raise ConfigError("api_key: the page sends no key; serve the page on this machine alone, without a key")
        if self.max_wait_ms < 0 or self.most_together < 1 or self.snapshot_every < 1:
            raise ConfigError("max_wait_ms is at least 0, most_together and snapshot_every at least 1")
