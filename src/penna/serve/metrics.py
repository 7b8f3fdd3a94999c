"""Counts and durations of one server, for Prometheus: requests by route and status, and what the models are at."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penna.serve.registry import Registry
from penna.serve.streaming import StreamLimit

_NOBODY_THERE = 499  # the client left before it was answered
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

_OF_A_MODEL: dict[str, tuple[type[GaugeMetricFamily] | type[CounterMetricFamily], str]] = {  # by names of WorkerGauges
    "running": (GaugeMetricFamily, "Texts that are being written."),
    "waiting": (GaugeMetricFamily, "Texts that wait for a slot."),
    "calls": (GaugeMetricFamily, "Other work, under way or waiting."),
    "texts": (CounterMetricFamily, "Texts taken in."),
    "tokens": (CounterMetricFamily, "Tokens written."),
    "failures": (CounterMetricFamily, "Texts that ended by a fault."),
}


class Metrics:
    """All that is counted, in a registry of its own."""

    def __init__(self, registry: Registry, streams: StreamLimit) -> None:
        self._all = CollectorRegistry()
        labels = ["route", "status"]
        self.requests = Counter("penna_requests", "Requests answered.", labels, registry=self._all)
        self.seconds = Histogram(
            "penna_request_seconds", "How long an answer took.", ["route"], buckets=_SECONDS, registry=self._all
        )
        self._all.register(_Models(registry, streams))

    def exposition(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its type."""
        return generate_latest(self._all), CONTENT_TYPE_LATEST


class MetricsMiddleware:
    """ASGI: counts every answer by its route, never by the path that was asked for."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count what is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = _NOBODY_THERE, time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:
            status = 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - begun)


class _Models(Collector):
    """What each loaded model is at, read when it is asked for."""

    def __init__(self, registry: Registry, streams: StreamLimit) -> None:
        self._registry, self._streams = registry, streams

    def collect(self) -> Iterator[Metric]:
        found = {name: worker.gauges() for name, worker in self._registry.workers().items()}
        for gauge, (kind, described) in _OF_A_MODEL.items():
            told = kind(f"penna_{gauge}", described, labels=["model"])
            for name, gauges in found.items():
                told.add_metric([name], getattr(gauges, gauge))
            yield told
        yield GaugeMetricFamily("penna_streams", "Streams that are open.", value=self._streams.open)
