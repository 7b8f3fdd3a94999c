"""Metrics for Prometheus: requests by route and status, and the state of each model."""

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

_DISCONNECTED = 499  # the client left before the response
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_MODEL_METRICS: dict[str, tuple[type[GaugeMetricFamily] | type[CounterMetricFamily], str]] = {  # fields of WorkerGauges
    "running": (GaugeMetricFamily, "Texts being generated."),
    "waiting": (GaugeMetricFamily, "Texts waiting for a slot."),
    "calls": (GaugeMetricFamily, "Other calls, running or waiting."),
    "texts": (CounterMetricFamily, "Texts accepted."),
    "tokens": (CounterMetricFamily, "Tokens generated."),
    "failures": (CounterMetricFamily, "Texts that ended with an error."),
}


class Metrics:
    """All metrics of a server, in a registry of their own."""

    def __init__(self, registry: Registry, streams: StreamLimit) -> None:
        self._collectors = CollectorRegistry()
        labels = ["route", "status"]
        self.requests = Counter("penna_requests", "Responses sent.", labels, registry=self._collectors)
        self.seconds = Histogram(
            "penna_request_seconds", "Duration of requests.", ["route"], buckets=_SECONDS, registry=self._collectors
        )
        self._collectors.register(_ModelCollector(registry, streams))

    def exposition(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its media type."""
        return generate_latest(self._collectors), CONTENT_TYPE_LATEST


class MetricsMiddleware:
    """ASGI middleware that counts responses by route, never by path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application and count its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = _DISCONNECTED, time.perf_counter()

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:
            status = 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - start)


class _ModelCollector(Collector):
    """Reads the state of each loaded model when the metrics are requested."""

    def __init__(self, registry: Registry, streams: StreamLimit) -> None:
        self._registry, self._streams = registry, streams

    def collect(self) -> Iterator[Metric]:
        gauges = {name: worker.gauges() for name, worker in self._registry.workers().items()}
        for field, (kind, description) in _MODEL_METRICS.items():
            metric = kind(f"penna_{field}", description, labels=["model"])
            for name, values in gauges.items():
                metric.add_metric([name], getattr(values, field))
            yield metric
        yield GaugeMetricFamily("penna_streams", "Open streams.", value=self._streams.open)
