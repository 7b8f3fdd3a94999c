"""The FastAPI application: routes over a registry of models, and middleware.

From the outside in, a request passes: metrics, security headers, error handling, the Host and Origin check, CORS (if
origins are allowed), the API key, and the body limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from penna import __version__
from penna.serve import analysis, chat_completions, completions, status
from penna.serve.dependencies import ServerState
from penna.serve.errors import ErrorMiddleware, ErrorResponse, add_error_handlers
from penna.serve.metrics import Metrics, MetricsMiddleware
from penna.serve.middleware import (
    ApiKeyMiddleware,
    BodyLimitMiddleware,
    HostOriginMiddleware,
    SecurityHeadersMiddleware,
)
from penna.serve.registry import Registry
from penna.serve.settings import ServeSettings
from penna.serve.streaming import StreamLimit
from penna.serve.thread_pool import RequestThreadPool

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorResponse, "description": "The request is invalid or not allowed."},
    "5XX": {"model": ErrorResponse, "description": "The server is busy or stopping, or has a bug."},
}


def create_app(registry: Registry, settings: ServeSettings) -> FastAPI:
    """The application that serves these models. On shutdown it closes them within ``drain_seconds``."""
    streams = StreamLimit(settings.max_streams)
    state = ServerState(
        registry, settings, streams, Metrics(registry, streams), RequestThreadPool(settings.max_waiting)
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        yield
        state.is_closing = True
        with suppress(asyncio.CancelledError):  # a second signal stops at once
            await registry.close(settings.drain_seconds)

    app = FastAPI(
        title="Penna",
        version=__version__,
        description="Small GPT language models behind an API compatible with OpenAI's clients.",
        docs_url=None,  # the page would load scripts from other sites
        redoc_url=None,
        lifespan=lifespan,
        responses=_ERRORS,
        redirect_slashes=False,
    )
    app.state.server = state
    for routes in (status, completions, chat_completions, analysis):
        app.include_router(routes.router)
    add_error_handlers(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes, seconds=settings.body_timeout)
    if settings.api_key is not None:
        app.add_middleware(ApiKeyMiddleware, key=settings.api_key)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(HostOriginMiddleware, settings=settings)
    app.add_middleware(ErrorMiddleware)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=state.metrics)
    return app
