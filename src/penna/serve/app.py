"""The application: routes over a registry of models, with what guards them.

In come the models by name and the limits; out comes an ASGI application. From the outside in: headers, Host and Origin,
cross-origin answers where pages are allowed, the key, whole bodies; behind them the routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from penna import __version__
from penna.serve import chat_completions, classify, completions, embeddings, explain, score, status
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

_ROUTES = (status, completions, chat_completions, embeddings, classify, score, explain)
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorResponse, "description": "The request is not served as it stands."},
    "5XX": {"model": ErrorResponse, "description": "The server cannot serve it now, or a fault of ours."},
}


def create_app(registry: Registry, settings: ServeSettings) -> FastAPI:
    """The application that serves these models; where it ends, the models are given ``drain_seconds`` and closed."""
    streams = StreamLimit(settings.max_streams)
    serving = ServerState(
        registry, settings, streams, Metrics(registry, streams), RequestThreadPool(settings.max_waiting)
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        yield
        serving.is_closing = True
        with suppress(asyncio.CancelledError):  # a second signal, by which nothing is waited for
            await registry.close(settings.drain_seconds)

    app = FastAPI(
        title="Penna",
        version=__version__,
        description="Small GPT language models, behind an API that OpenAI's clients can use.",
        docs_url=None,  # its page would be made of scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses=_ERRORS,
        redirect_slashes=False,
    )
    app.state.serving = serving
    for routes in _ROUTES:
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
    app.add_middleware(MetricsMiddleware, metrics=serving.metrics)
    return app
