"""Guard every request before it is parsed: host, API key, body size and metrics.

This is plain ASGI, since Starlette's BaseHTTPMiddleware would put a task and two streams around each request.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmrec.service.problem_details import ProblemResponse
from llmrec.service.prometheus import ServiceMetrics
from llmrec.service.settings import ServiceSettings

OPEN = ("/health", "/openapi.json")  # without the key
# No other hosts and no inline code: markup in the texts of items and users has no effect on the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class RequestGuardMiddleware:
    """Measure requests, refuse those that are not allowed, and add security headers to all answers.

    Attributes:
        app: Application behind the middleware.
        settings: Settings of the service.
        metrics: Metrics to update.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, metrics: ServiceMetrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request on, or refuse it.

        Args:
            scope: ASGI scope of the request.
            receive: Receives the parts of the request.
            send: Sends the parts of the answer.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        try:
            refusal = self._rejection(scope)
            if refusal is not None:
                await refusal(scope, receive, send_with_headers)
            else:
                await self.app(
                    scope, _limit_body(receive, self.settings.limits.body_bytes, self._timeout), send_with_headers
                )
        finally:
            self.metrics.observe_request(_get_route(scope), scope["method"], status, time.perf_counter() - began)

    @property
    def _timeout(self) -> float:
        return self.settings.limits.read_seconds

    def _rejection(self, scope: Scope) -> ProblemResponse | None:
        headers, settings = Headers(scope=scope), self.settings
        host = headers.get("host", "").rpartition("]")[-1].partition(":")[0]
        if settings.hosts and host not in settings.hosts and headers.get("host", "") not in settings.hosts:
            return ProblemResponse(421, "this service is not addressed by that name")  # as in DNS rebinding
        if settings.api_key is not None and scope["path"] not in OPEN and not _has_api_key(headers, settings.api_key):
            challenge = {"WWW-Authenticate": "Bearer"}
            return ProblemResponse(401, "give the API key as X-API-Key, or as Authorization: Bearer", headers=challenge)
        length = headers.get("content-length", "0")
        if length.isdecimal() and len(length) < 20 and int(length) > settings.limits.body_bytes:
            return ProblemResponse(413, _format_too_large(settings.limits.body_bytes), headers={"Connection": "close"})
        return None


def _has_api_key(headers: Headers, key: str) -> bool:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    given = headers.get("x-api-key") or (bearer if scheme.lower() == "bearer" else "")
    return hmac.compare_digest(given.encode("latin-1"), key.encode())  # headers are decoded as Latin-1


def _limit_body(receive: Receive, most: int, patience: float) -> Receive:
    """Limit a body, whose length may be undeclared, to `most` bytes, and each part to `patience` seconds."""
    taken, whole = 0, False

    async def bounded() -> Message:
        nonlocal taken, whole
        if whole:
            return await receive()  # until the client disconnects
        try:
            message: MutableMapping[str, Any] = await asyncio.wait_for(receive(), patience)
        except asyncio.TimeoutError:
            raise HTTPException(408, "the body did not arrive in time", {"Connection": "close"}) from None
        taken += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if taken > most:
            raise HTTPException(413, _format_too_large(most), {"Connection": "close"})
        return message

    return bounded


def _format_too_large(most: int) -> str:
    return f"a body may have {most:,} bytes; send less at once"


def _get_route(scope: Scope) -> str:
    """Return the path as declared, since a metric label must not take every requested path."""
    return str(getattr(scope.get("route"), "path", "none"))
