"""What every route of one server shares."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from penna.serve.metrics import Metrics
from penna.serve.registry import Registry
from penna.serve.settings import ServeSettings
from penna.serve.streaming import StreamLimit
from penna.serve.thread_pool import RequestThreadPool


@dataclass
class ServerState:
    """The models that are served, and within which limits."""

    registry: Registry
    settings: ServeSettings
    streams: StreamLimit
    metrics: Metrics
    thread_pool: RequestThreadPool
    is_closing: bool = False


def _serving(request: Request) -> ServerState:
    return cast(ServerState, request.app.state.serving)


ServerStateDep = Annotated[ServerState, Depends(_serving)]


@dataclass(frozen=True)
class Answering:
    """What every part of one answer says of itself."""

    id: str
    created: int  # seconds since 1970
    model: str
    seed: int


def answering(kind: str, model: str, seed: int) -> Answering:
    """The marks of a new answer, whose id begins with ``kind``."""
    return Answering(f"{kind}-{uuid.uuid4().hex}", int(time.time()), model, seed)
