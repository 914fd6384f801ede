"""A real OTLP gRPC receiver in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as messages
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as services


class Collector(services.MetricsServiceServicer):
    """Keeps every request; may be slow."""

    def __init__(self, delay_seconds: float = 0.0) -> None:
        self.requests: list[messages.ExportMetricsServiceRequest] = []
        self.delay_seconds = delay_seconds
        self.endpoint = ""

    def Export(self, request: Any, context: Any) -> Any:
        time.sleep(self.delay_seconds)
        self.requests.append(request)
        return messages.ExportMetricsServiceResponse()

    def names(self) -> set[str]:
        return {metric.name for request in list(self.requests) for metric in metrics(request)}


def metrics(request: Any) -> Iterator[Any]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics


def points(request: Any, name: str) -> list[tuple[dict[str, Any], float]]:
    """Return attributes and value of every point of a metric."""
    found = []
    for metric in metrics(request):
        if metric.name == name:
            for point in (metric.gauge if metric.HasField("gauge") else metric.sum).data_points:
                value = point.as_int if point.HasField("as_int") else point.as_double
                found.append(({pair.key: _value(pair.value) for pair in point.attributes}, value))
    return found


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@contextmanager
def collector(delay_seconds: float = 0.0, port: int = 0) -> Iterator[Collector]:
    server = grpc.server(ThreadPoolExecutor(4))
    receiver = Collector(delay_seconds)
    services.add_MetricsServiceServicer_to_server(receiver, server)
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None).wait()
