"""State that all routes of a server share, and the fields that all responses share."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Annotated, Self, cast

from fastapi import Depends, Request

from penna.serve.metrics import Metrics
from penna.serve.registry import Registry
from penna.serve.settings import ServeSettings
from penna.serve.streaming import StreamLimit
from penna.serve.thread_pool import RequestThreadPool


@dataclass
class ServerState:
    """The served models, the limits and the counters of a server."""

    registry: Registry
    settings: ServeSettings
    streams: StreamLimit
    metrics: Metrics
    thread_pool: RequestThreadPool
    is_closing: bool = False


def _server_state(request: Request) -> ServerState:
    return cast(ServerState, request.app.state.server)


ServerStateDep = Annotated[ServerState, Depends(_server_state)]


@dataclass(frozen=True)
class ResponseInfo:
    """The fields that a response and all chunks of a stream begin with."""

    id: str
    created: int  # seconds since 1970
    model: str
    seed: int

    @classmethod
    def create(cls, id_prefix: str, model: str, seed: int) -> Self:
        """The fields of a new response."""
        return cls(f"{id_prefix}-{uuid.uuid4().hex}", int(time.time()), model, seed)
