"""Errors as application/problem+json (RFC 9457).

A problem names the remedy if the client can apply it, and never has a traceback.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from llmrec.errors import BundleError, ConfigError, DataError, LlmrecError
from llmrec.inference.live.store.schema import StoreError
from llmrec.service.batching import OverloadedError

MEDIA_TYPE = "application/problem+json"
UNKNOWN_USER = "live users"  # the source of a DataError about an unknown user
MAX_LISTED_ERRORS = 20  # faults of one request
RETRY = {"Retry-After": "1"}
logger = logging.getLogger(__name__)


class NotFoundError(LlmrecError):
    """Error of a path that names an unknown user or item."""


class ConflictError(LlmrecError):
    """Error of a request that would create an existing item."""


class ProblemResponse(Response):
    """Problem as an HTTP answer, escaped to ASCII, so that any text of a client can be encoded."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Build the answer.

        Args:
            status: HTTP status.
            detail: One sentence about the problem and its remedy.
            errors: Single faults, each with `where` and `message`.
            headers: Additional HTTP headers.
        """
        title = HTTPStatus(status).phrase
        content: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        if errors:
            content["errors"] = list(errors)
        super().__init__(json.dumps(content), status, headers)


def to_problem(error: LlmrecError) -> ProblemResponse:
    """Convert an error of llmrec to a problem, with the status that fits what the client can do about it.

    Args:
        error: Error of a request.

    Returns:
        The answer.
    """
    match error:
        case OverloadedError():
            return ProblemResponse(503, str(error), headers=RETRY)
        case StoreError():
            logger.error("%s", error)
            return ProblemResponse(
                503, "the store of events cannot be reached or written; nothing was stored", headers=RETRY
            )
        case NotFoundError():
            return ProblemResponse(404, str(error))
        case ConflictError():
            return ProblemResponse(409, str(error))
        case DataError(source=source, problems=problems):
            faults = [{"where": source, "message": each} for each in problems[:MAX_LISTED_ERRORS]]
            return ProblemResponse(
                404 if source == UNKNOWN_USER else 422, "; ".join(problems[:MAX_LISTED_ERRORS]), errors=faults
            )
        case ConfigError() | BundleError():
            return ProblemResponse(422, str(error))
    logger.error("%s", error)
    return ProblemResponse(503, "the recommender cannot answer now", headers=RETRY)


def register_problem_handlers(app: FastAPI) -> None:
    """Register handlers that answer every error of an application with a problem.

    Args:
        app: Application to change.
    """

    @app.exception_handler(LlmrecError)
    async def handle_llmrec_error(_: Request, error: LlmrecError) -> Response:
        return to_problem(error)

    @app.exception_handler(RequestValidationError)
    async def handle_validation_error(_: Request, error: RequestValidationError) -> Response:
        # Without the input: it may be long, secret, or text that cannot be encoded.
        found = error.errors()
        listed = [
            {"where": ".".join(str(part)[:80] for part in each["loc"]), "message": str(each["msg"])}
            for each in found[:MAX_LISTED_ERRORS]
        ]
        detail = "; ".join(f"{each['where']}: {each['message']}" for each in listed[:3])
        return ProblemResponse(422, f"{len(found)} problem(s) with the request: {detail}", errors=listed)

    @app.exception_handler(HTTPException)
    async def handle_http_error(_: Request, error: HTTPException) -> Response:
        return ProblemResponse(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(Exception)
    async def handle_internal_error(_: Request, error: Exception) -> Response:
        return ProblemResponse(500, "a fault of the service; its log has more")
