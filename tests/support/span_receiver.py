"""A real OTLP gRPC receiver of spans in this process."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

from support.otlp_receiver import Receiver, receiving, values_of

__all__ = ["Received", "SpanReceiver", "span_receiver"]


@dataclass(frozen=True)
class Received:
    """One span, and the resource that it comes from."""

    span: Any
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.span.name)

    @property
    def attributes(self) -> dict[str, Any]:
        return values_of(self.span.attributes)

    def is_child_of(self, other: Received) -> bool:
        ours, theirs = self.span, other.span
        return bool(ours.trace_id == theirs.trace_id and ours.parent_span_id == theirs.span_id)


class SpanReceiver(Receiver):
    """Keeps every span; may be slow."""

    answer = messages.ExportTraceServiceResponse

    def __init__(self, delay_seconds: float = 0.0) -> None:
        super().__init__(delay_seconds)
        self.spans: list[Received] = []

    def keep(self, request: Any) -> None:
        for one in request.resource_spans:
            resource = values_of(one.resource.attributes)
            self.spans += [Received(span, resource) for scope in one.scope_spans for span in scope.spans]

    def roots(self, name: str, **attributes: Any) -> list[Received]:
        """Spans without a parent, by name and attributes (dots as double underscores)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        found = [one for one in list(self.spans) if one.name == name and not one.span.parent_span_id]
        return [one for one in found if wanted.items() <= one.attributes.items()]

    def children(self, parent: Received) -> list[Received]:
        return [one for one in list(self.spans) if one.is_child_of(parent)]


def span_receiver(delay_seconds: float = 0.0, port: int = 0) -> AbstractContextManager[SpanReceiver]:
    return receiving(SpanReceiver(delay_seconds), services.add_TraceServiceServicer_to_server, port)
