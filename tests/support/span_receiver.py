"""A real OTLP gRPC receiver of spans in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

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
        return _values(self.span.attributes)

    def is_child_of(self, other: Received) -> bool:
        ours, theirs = self.span, other.span
        return bool(ours.trace_id == theirs.trace_id and ours.parent_span_id == theirs.span_id)


class SpanReceiver(services.TraceServiceServicer):
    """Keeps every span; may be slow."""

    def __init__(self, delay_seconds: float = 0.0) -> None:
        self.spans: list[Received] = []
        self.headers: list[dict[str, Any]] = []
        self.delay_seconds = delay_seconds
        self.endpoint = ""

    def Export(self, request: Any, context: Any) -> Any:
        time.sleep(self.delay_seconds)
        self.headers.append({pair.key: pair.value for pair in context.invocation_metadata()})
        for one in request.resource_spans:
            resource = _values(one.resource.attributes)
            self.spans += [Received(span, resource) for scope in one.scope_spans for span in scope.spans]
        return messages.ExportTraceServiceResponse()

    def roots(self, name: str, **attributes: Any) -> list[Received]:
        """Spans without a parent, by name and attributes (dots as double underscores)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        found = [one for one in list(self.spans) if one.name == name and not one.span.parent_span_id]
        return [one for one in found if wanted.items() <= one.attributes.items()]

    def children(self, parent: Received) -> list[Received]:
        return [one for one in list(self.spans) if one.is_child_of(parent)]


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def span_receiver(delay_seconds: float = 0.0, port: int = 0) -> Iterator[SpanReceiver]:
    server = grpc.server(ThreadPoolExecutor(4))
    receiver = SpanReceiver(delay_seconds)
    services.add_TraceServiceServicer_to_server(receiver, server)
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None).wait()
