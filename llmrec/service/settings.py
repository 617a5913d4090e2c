"""How a service is run, and what it lets a request ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmrec.errors import ConfigError


@dataclass(frozen=True)
class RequestLimits:
    """What one request may hold; more is refused with a problem that names the limit.

    body_bytes: of a request. history: events. batch: queries, events or items in one request. items: that one query
    scores. text: characters of a text or field. k: items to recommend. waiting: requests that wait their turn, more are
    told to come back later. read_seconds: for a body to arrive.
    """

    body_bytes: int = 1 << 20
    history: int = 1000
    batch: int = 256
    items: int = 1000
    text: int = 4000
    k: int = 1000
    waiting: int = 2000
    read_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ConfigError(f"limits.{name}={value}: must be above 0")


@dataclass(frozen=True)
class ServiceSettings:
    """api_key: asked of every request but those for /health and the page itself. snapshots: folder of saved states to
    begin from; none are kept without it. snapshot_every: events. max_wait_ms: that a request waits for others which can
    be answered together with it. most_together: requests that are. threads: of torch; as it finds them without.
    page: whether there is a page to look at, which shows users and their histories.
    hosts: names by which it may be addressed, any unless given.
    """

    api_key: str | None = None
    snapshots: Path | None = None
    snapshot_every: int = 10_000
    max_wait_ms: float = 2.0
    most_together: int = 64
    threads: int | None = None
    page: bool = False
    hosts: tuple[str, ...] = ()
    limits: RequestLimits = RequestLimits()

    def __post_init__(self) -> None:
        if self.api_key is not None and not self.api_key.strip():
            raise ConfigError("api_key: empty; give a secret, or none for a service that is open to all who reach it")
        if self.page and self.api_key is not None:
            raise ConfigError("api_key: the page asks without one; serve it on this machine alone, without a key")
        if self.max_wait_ms < 0 or self.most_together < 1 or self.snapshot_every < 1:
            raise ConfigError("max_wait_ms is at least 0, most_together and snapshot_every at least 1")
