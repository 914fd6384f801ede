"""One OTLP request over gRPC, and the credentials that it takes. Imported only when an endpoint is set."""

from __future__ import annotations

from typing import Any, Final

import grpc
import grpc.aio

from supernode_api.otlp import OtlpConfig, OtlpConfigError, Signal, read_tls_files
from supernode_operator.domain.telemetry import Export

__all__ = ["prepare", "read_credentials", "send_nothing"]

_METHODS: Final[dict[Signal, str]] = {
    "METRICS": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "TRACES": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
_OPTIONS: Final = (
    # Connections of others to the same address, and how long they wait after a failure, are not ours.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", "supernode-operator"),
)


def prepare() -> None:
    """Start gRPC's poller for good, once on the running loop, before :func:`send_nothing`."""
    # It would end with each channel, and can hang in that.
    grpc.aio.init_grpc_aio()


def read_credentials(config: OtlpConfig) -> grpc.ChannelCredentials:
    """Read the files of a TLS connection; :class:`OtlpConfigError` names one that cannot be read."""
    return grpc.ssl_channel_credentials(*read_tls_files(config))


async def send_nothing(config: OtlpConfig, signal: Signal) -> Export:
    """Export an empty request over a connection of its own; return how that ended, never an exception of gRPC.

    OTLP has receivers answer an empty request with success (OTLP specification, "OTLP/gRPC Response"), so this goes
    the whole way that telemetry goes: name, connection, TLS, login, receiver, answer in time.
    """
    try:
        credentials = read_credentials(config) if config.secure else None
    except OtlpConfigError as error:
        return Export("INVALID_ARGUMENT", str(error))
    async with _open(config.target, credentials) as channel:
        send: Any = channel.unary_unary(_METHODS[signal])
        try:
            await send(b"", timeout=config.timeout_seconds, metadata=config.headers)
        except grpc.aio.AioRpcError as error:
            return Export(error.code().name, error.details() or "")
        except (ValueError, grpc.aio.BaseError):
            return Export("INVALID_ARGUMENT", "OTEL_EXPORTER_OTLP_HEADERS has a header that HTTP/2 cannot carry")
    return Export()


def _open(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
