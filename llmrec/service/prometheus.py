"""Metrics of the service for Prometheus."""

from __future__ import annotations

from llmrec.errors import ConfigError, missing_extra

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
except ImportError as error:
    raise ConfigError(f"serving: prometheus-client is not installed. {missing_extra('serve')}") from error

METHODS = {"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"}
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServiceMetrics:
    """Metrics of one service, in a registry of its own.

    Attributes:
        registry: Registry of all metrics.
        requests: Answered requests by route, method and status.
        latency: Seconds per request by route.
        batch: Requests per batch.
        texts: New texts per pass of the backbone.
        events: Stored events.
        users: Live users.
        items: Items that can be recommended.
    """

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        labels = ["route", "method", "status"]
        self.requests = Counter("llmrec_requests", "Requests answered", labels, registry=own)
        self.latency = Histogram("llmrec_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=own)
        self.batch = Histogram("llmrec_batch_size", "Requests answered together", buckets=SIZES, registry=own)
        self.texts = Histogram("llmrec_texts_together", "New texts of one pass", buckets=SIZES, registry=own)
        self.events = Counter("llmrec_events", "Events stored", registry=own)
        self.users = Gauge("llmrec_live_users", "Users that are followed", registry=own)
        self.items = Gauge("llmrec_items", "Items that may be recommended", registry=own)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Record an answered request.

        Args:
            route: Declared path.
            method: HTTP method.
            status: HTTP status of the answer.
            seconds: Time until the answer was complete.
        """
        self.requests.labels(route, method if method in METHODS else "other", str(status)).inc()
        self.latency.labels(route).observe(seconds)

    def render(self) -> bytes:
        """Render all metrics in the text format of Prometheus.

        Returns:
            The text in UTF-8.
        """
        return generate_latest(self.registry)
