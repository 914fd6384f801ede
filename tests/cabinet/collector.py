"""A real OTLP gRPC receiver of metrics in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as messages
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as services

from support.otlp_receiver import Receiver, receiving, values_of


class Collector(Receiver):
    """Keeps every request; may be slow."""

    answer = messages.ExportMetricsServiceResponse

    def __init__(self, delay_seconds: float = 0.0) -> None:
        super().__init__(delay_seconds)
        self.requests: list[messages.ExportMetricsServiceRequest] = []

    def keep(self, request: Any) -> None:
        self.requests.append(request)

    def names(self) -> set[str]:
        return {metric.name for request in list(self.requests) for metric in metrics(request)}


def metrics(request: Any) -> Iterator[Any]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics


def points(request: Any, name: str) -> list[tuple[dict[str, Any], float]]:
    """Return attributes and value of every point of a metric that has numbers."""
    found = []
    for metric in metrics(request):
        if metric.name == name:
            for point in (metric.gauge if metric.HasField("gauge") else metric.sum).data_points:
                value = point.as_int if point.HasField("as_int") else point.as_double
                found.append((values_of(point.attributes), value))
    return found


def histograms(request: Any, name: str) -> list[tuple[dict[str, Any], Any]]:
    """Return attributes and point of every point of a histogram."""
    found = [metric.histogram.data_points for metric in metrics(request) if metric.name == name]
    return [(values_of(point.attributes), point) for points_of in found for point in points_of]


def collector(delay_seconds: float = 0.0, port: int = 0) -> AbstractContextManager[Collector]:
    return receiving(Collector(delay_seconds), services.add_MetricsServiceServicer_to_server, port)
