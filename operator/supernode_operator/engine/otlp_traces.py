"""Traces over OTLP gRPC, by the OpenTelemetry SDK. Imported only when an endpoint is set.

A span that ends goes into a bounded queue in memory (OTEL_BSP_*, 2,048 by default) and is sent by a thread of the SDK's
own. A collector that is away or slow therefore costs spans, never time: full queues drop, and nobody waits.

The variables are read by us and handed over as values: the SDK takes OTEL_EXPORTER_OTLP_TIMEOUT for seconds, where the
specification (and the cabinets, which get the same variables) have milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import grpc
import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from supernode_api.otlp import OtlpConfig, build_resource, read_otlp_config
from supernode_operator.engine.kinds import Key
from supernode_operator.engine.otlp_channel import read_credentials
from supernode_operator.engine.tracing import Span, Tracing, url_template

__all__ = ["OtlpTracing"]

log = structlog.get_logger(__name__)

SCOPE: Final = "supernode_operator"
CLOSE_SECONDS: Final = 2.0
_EXPORTER_LOG: Final = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
_QUEUE_LOG: Final = logging.getLogger("opentelemetry.sdk._shared_internal")
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class _OtlpSpan(Span):
    """One span of the SDK, current while the block runs."""

    __slots__ = ("_span", "_stack")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._stack = ExitStack()

    def __enter__(self) -> Span:
        """Make the span the current one, also of the log lines written meanwhile."""
        current = trace.use_span(self._span, end_on_exit=True, record_exception=False, set_status_on_exception=False)
        self._stack.enter_context(current)
        where = self._span.get_span_context()
        if where.is_valid:
            bound = structlog.contextvars.bound_contextvars(
                trace_id=trace.format_trace_id(where.trace_id), span_id=trace.format_span_id(where.span_id)
            )
            self._stack.enter_context(bound)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def note(self, attributes: Mapping[str, str | int | float]) -> None:
        self._span.set_attributes(attributes)

    def fail(self, description: str, error: BaseException | None = None) -> None:
        self._span.set_status(StatusCode.ERROR, description)
        if error is not None:
            self._span.record_exception(error)

    def propagation(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier


class OtlpTracing(Tracing):
    """Makes spans and sends them; :class:`~supernode_api.otlp.OtlpConfigError` names a variable that cannot be used."""

    def __init__(self, environment: Mapping[str, str], instance: str) -> None:
        config = read_otlp_config(environment, "TRACES")
        own = {"service.name": "supernode-operator", "service.instance.id": instance}
        resource = Resource.create(build_resource(environment, own))
        self._exporter = _TellingExporter(config)
        self._processor = BatchSpanProcessor(self._exporter)
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer(SCOPE)

    def reconcile(self, key: Key) -> Span:
        """Begin a trace."""
        attributes = {"supernode.object.kind": key.kind, "supernode.object.name": key.name}
        if key.namespace:
            attributes["k8s.namespace.name"] = key.namespace
        return _OtlpSpan(self._tracer.start_span(f"reconcile {key.kind}", attributes=attributes))

    def request(self, method: str, url: str) -> Span:
        """Begin a child of the reconcile that goes on, if one does and is sampled."""
        if not trace.get_current_span().is_recording():
            return super().request(method, url)
        parts = urlsplit(url)
        template = url_template(parts.path)
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "url.full": url,
            "url.template": template,
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
        }
        return _OtlpSpan(self._tracer.start_span(f"{method} {template}", kind=SpanKind.CLIENT, attributes=attributes))

    def requeue(self, reason: str, seconds: float) -> None:
        """Note it as attributes of the current span; of several wishes the last."""
        span = trace.get_current_span()
        span.set_attribute("supernode.reconcile.requeue.reason", reason)
        span.set_attribute("supernode.reconcile.requeue.seconds", round(seconds, 3))

    async def close(self) -> None:
        """Send what is left, for at most CLOSE_SECONDS."""
        # A thread that the interpreter does not wait for: a collector that hangs must not hold up the exit.
        last = threading.Thread(target=self._processor.shutdown, daemon=True, name="last-spans")
        last.start()
        await asyncio.to_thread(last.join, CLOSE_SECONDS)
        self._exporter.give_up()


class _TellingExporter(SpanExporter):
    """The SDK's exporter logs every attempt: this one says once that spans do not arrive, and once that they do."""

    def __init__(self, config: OtlpConfig) -> None:
        self._config = config
        self._works: bool | None = None
        self._closed = False
        self._words = _LastWords()
        _EXPORTER_LOG.filters.insert(0, self._words)  # before the SDK's own, which hides what was said a minute ago
        _QUEUE_LOG.addFilter(_is_exception)
        self._inner = OTLPSpanExporter(
            endpoint=config.target,
            insecure=not config.secure,
            credentials=read_credentials(config) if config.secure else None,
            headers=config.headers,
            timeout=config.timeout_seconds,
            compression=grpc.Compression.Gzip if config.gzip else grpc.Compression.NoCompression,
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; called by the SDK's own thread only."""
        result = self._inner.export(spans)
        works = result is SpanExportResult.SUCCESS
        if works is not self._works and not self._closed:
            if works:
                log.info("OTLP endpoint takes traces", endpoint=self._config.target)
            else:
                log.warning(
                    "OTLP endpoint does not take traces; the operator goes on without",
                    endpoint=self._config.target,
                    error=self._words.last[:300],
                )
        self._works = works
        return result

    def shutdown(self) -> None:
        """Close the connection: called by the SDK after the last spans."""
        self.give_up()

    def give_up(self) -> None:
        """Close the connection now, whatever is on its way."""
        if not self._closed:
            self._closed = True
            self._inner.shutdown()
            _EXPORTER_LOG.removeFilter(self._words)
            _QUEUE_LOG.removeFilter(_is_exception)


class _LastWords(logging.Filter):
    """Keeps what the SDK's exporter would log."""

    last = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.last = record.getMessage()
        return False


def _is_exception(record: logging.LogRecord) -> bool:
    return bool(record.exc_info)
