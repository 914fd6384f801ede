"""OTLP metrics over gRPC, from a thread of its own: an endpoint that is down or slow delays nothing else.

Every interval the latest snapshot is sent once; what could not be sent is not kept, because the next values say it
all (gauges) or contain it (cumulative counters). Transitions are logged once. When the level of detail changes the
points change with it; counters then restart, as their start time says.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc

from supernode_api.otlp import OtlpConfig, read_tls_files
from supernode_cabinet.otlp_layout import Layout
from supernode_cabinet.served import Served
from supernode_cabinet.snapshot import Snapshot

__all__ = ["Telemetry"]

_log = logging.getLogger(__name__)

_METHOD: Final = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
_STOP_SECONDS: Final = 1.5
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    ("grpc.primary_user_agent", "supernode-cabinet"),
)


class Telemetry:
    """Sends the latest snapshot every interval."""

    def __init__(
        self,
        config: OtlpConfig,
        resource: Mapping[str, str],
        count_export: Callable[[bool], None] = lambda _: None,
        served: Served | None = None,
    ) -> None:
        """Raise OtlpConfigError when a certificate or key cannot be read."""
        self._config = config
        self._resource = dict(resource)
        self._count_export = count_export
        self._served = served
        self._channel = _channel(config)
        self._send: Any = self._channel.unary_unary(_METHOD)
        self._lock = threading.Lock()
        self._layout: Layout | None = None
        self._interval = 5.0
        self._wake = threading.Event()
        self._stopped = False
        self._works: bool | None = None
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def update(self, snapshot: Snapshot | None) -> None:
        """Publish this snapshot from now on; None: nothing. Returns at once."""
        with self._lock:
            if snapshot is None:
                self._layout = None
                return
            if self._layout is not None and self._layout.takes(snapshot):
                self._layout.update(snapshot, time.monotonic_ns())
            else:
                self._layout = Layout(self._resource, snapshot, time.time_ns(), time.monotonic_ns(), self._served)
            if self._interval != snapshot.interval_seconds:
                self._interval = float(snapshot.interval_seconds)
                self._wake.set()

    def stop(self) -> None:
        """Send what there is once more and stop; waits for a moment at most."""
        self._stopped = True
        self._wake.set()
        self._thread.join(_STOP_SECONDS)
        self._channel.close()

    def _run(self) -> None:
        due = time.monotonic() + self._interval
        while not self._stopped:
            if self._wake.wait(max(due - time.monotonic(), 0.0)):
                self._wake.clear()
                due = min(due, time.monotonic() + self._interval)
                continue
            self._export(self._config.timeout_seconds)
            # A slow endpoint costs intervals, not a queue.
            due += self._interval
            if due < time.monotonic():
                due = time.monotonic() + self._interval
        self._export(_STOP_SECONDS)

    def _export(self, timeout_seconds: float) -> None:
        try:
            with self._lock:
                layout = self._layout
            if layout is None:
                return
            deadline = time.monotonic() + timeout_seconds
            for request in layout.requests(time.time_ns(), time.monotonic_ns()):
                self._send(request, timeout=max(deadline - time.monotonic(), 0.001), metadata=self._config.headers)
        except (grpc.RpcError, ValueError) as error:
            self._note(False, _describe(error))
        except Exception:  # the loop's edge: telemetry must not end its thread
            _log.exception("cannot encode metrics")
        else:
            self._note(True, "")

    def _note(self, works: bool, why: str) -> None:
        self._count_export(works)
        if works is not self._works and not (self._stopped and not works):
            if works:
                _log.info("OTLP endpoint %s takes metrics", self._config.target)
            else:
                _log.warning(
                    "OTLP endpoint %s does not take metrics; the machine goes on without: %s", self._config.target, why
                )
        self._works = works


def _channel(config: OtlpConfig) -> grpc.Channel:
    compression = grpc.Compression.Gzip if config.gzip else grpc.Compression.NoCompression
    if not config.secure:
        return grpc.insecure_channel(config.target, options=_OPTIONS, compression=compression)
    credentials = grpc.ssl_channel_credentials(*read_tls_files(config))
    return grpc.secure_channel(config.target, credentials, options=_OPTIONS, compression=compression)


def _describe(error: Any) -> str:
    if isinstance(error, grpc.Call):
        code = error.code()
        return f"{code.name if code else 'UNKNOWN'}: {str(error.details())[:200]}"
    return f"{type(error).__name__}: {str(error)[:200]}"
