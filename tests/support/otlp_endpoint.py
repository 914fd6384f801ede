"""A real OTLP gRPC endpoint on loopback that takes everything, or is slow, or refuses; it counts and keeps nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

__all__ = ["OtlpEndpoint", "otlp_endpoint"]

_PACKAGE = "opentelemetry.proto.collector"
_SERVICES = {"METRICS": f"{_PACKAGE}.metrics.v1.MetricsService", "TRACES": f"{_PACKAGE}.trace.v1.TraceService"}


class OtlpEndpoint:
    """What came, and how it is answered from now on."""

    def __init__(self, delay_seconds: float, refuse: grpc.StatusCode | None) -> None:
        self.delay_seconds = delay_seconds
        self.refuse = refuse
        self.received: list[tuple[str, bytes]] = []
        """(signal, request) in the order of their coming."""
        self.headers: list[dict[str, Any]] = []
        self.port = 0

    def handler(self, signal: str) -> grpc.GenericRpcHandler:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.received.append((signal, request))
            self.headers.append({str(key): value for key, value in context.invocation_metadata()})
            time.sleep(self.delay_seconds)
            if self.refuse is not None:
                context.abort(self.refuse, "not you")
            return b""

        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Export": grpc.unary_unary_rpc_method_handler(answer)
        }
        return grpc.method_handlers_generic_handler(_SERVICES[signal], methods)


@contextmanager
def otlp_endpoint(
    port: int = 0,
    *,
    signals: tuple[str, ...] = ("METRICS", "TRACES"),
    delay_seconds: float = 0.0,
    refuse: grpc.StatusCode | None = None,
) -> Iterator[OtlpEndpoint]:
    """Serve on a port of loopback (0: any) while the block runs."""
    endpoint = OtlpEndpoint(delay_seconds, refuse)
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(tuple(endpoint.handler(signal) for signal in signals))
    endpoint.port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield endpoint
    finally:
        server.stop(None).wait()
