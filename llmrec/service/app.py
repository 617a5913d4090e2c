"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from llmrec import __version__
from llmrec.errors import ConfigError, missing_extra
from llmrec.inference.live.store.event_store import EventStore
from llmrec.recommender import Recommender
from llmrec.service.settings import ServiceSettings

try:
    from fastapi import FastAPI, Security
    from fastapi.security import APIKeyHeader
    from starlette.staticfiles import StaticFiles
except ImportError as error:
    raise ConfigError(f"serving: FastAPI is not installed. {missing_extra('serve')}") from error

PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"where": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def create_app(recommender: Recommender, settings: ServiceSettings, store: EventStore) -> FastAPI:
    """Create the application of a service, which closes the store when it stops.

    Args:
        recommender: Recommender to serve; from now on only the service may use it.
        settings: Settings of the service and limits of its requests.
        store: Event store of the live users.

    Returns:
        The application.

    Raises:
        StoreError: If the store cannot be read.
        StateError: If the state of the live users cannot be built.
    """
    from llmrec.service.middleware import RequestGuardMiddleware
    from llmrec.service.problem_details import register_problem_handlers
    from llmrec.service.routes import router
    from llmrec.service.runtime import ServiceRuntime

    service = ServiceRuntime(recommender, settings, store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    # No documentation pages: FastAPI's load scripts from other hosts.
    app = FastAPI(title="llmrec", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    key = [Security(APIKeyHeader(name="X-API-Key", auto_error=False))] if settings.api_key is not None else []
    app.include_router(router, dependencies=key)  # for OpenAPI; the middleware checks it
    if settings.page:
        from llmrec.service.demo import STATIC
        from llmrec.service.demo import router as page

        app.include_router(page)
        app.mount("/static", StaticFiles(directory=STATIC))
    register_problem_handlers(app)
    app.add_middleware(RequestGuardMiddleware, settings=settings, metrics=service.metrics)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Replace FastAPI's own error schemas in OpenAPI by the problem schema."""
    made = app.openapi

    def describe_api() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = made()
            parts = schema["components"]["schemas"]
            parts["Problem"] = PROBLEM_SCHEMA
            for name in ("HTTPValidationError", "ValidationError"):
                parts.pop(name, None)
        return app.openapi_schema or {}

    app.openapi = describe_api  # type: ignore[method-assign]
