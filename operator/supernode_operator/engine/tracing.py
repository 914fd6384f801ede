"""Traces of the operator: a span for each reconcile, and below it one for each request that it sends. Here: their form.

Off, at the price of two empty calls, unless an OTLP endpoint is set in the standard OTEL_* variables; nothing of
OpenTelemetry is imported then. What sends spans is :mod:`supernode_operator.engine.otlp_traces`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Final

import structlog

from supernode_api.otlp import OtlpConfigError, wants_otlp
from supernode_operator.engine.kinds import Key

__all__ = ["Span", "Tracing", "start_tracing", "url_template"]

log = structlog.get_logger(__name__)


class Span:
    """A piece of work with a name, a begin and an end; this one records nothing. Use as a context manager."""

    __slots__ = ()

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span; an exception goes on its way."""

    def note(self, attributes: Mapping[str, str | int | float]) -> None:
        """Add attributes."""

    def fail(self, description: str, error: BaseException | None = None) -> None:
        """Mark the work as failed; an exception is recorded with its traceback."""

    def propagation(self) -> Mapping[str, str]:
        """Return the HTTP headers (W3C Trace Context) that tie what the receiver does to this span."""
        return {}


_NOTHING: Final = Span()


class Tracing:
    """Makes spans; this one makes none."""

    def reconcile(self, key: Key) -> Span:
        """Return the span of one look at an object: the root of a trace."""
        return _NOTHING

    def request(self, method: str, url: str) -> Span:
        """Return the span of one request to the API server; outside of a reconcile there is none."""
        return _NOTHING

    def requeue(self, reason: str, seconds: float) -> None:
        """Note on the reconcile that goes on why and when its object is looked at again."""

    async def close(self) -> None:
        """Send what is left, for a moment only."""


def start_tracing(environment: Mapping[str, str], instance: str) -> Tracing:
    """Return what makes spans, as the OTEL_* variables say; one that cannot be used is said, and turns traces off."""
    if not wants_otlp(environment, "TRACES"):
        return Tracing()
    # The SDK and gRPC cost half a second and fifteen megabytes: only those who use them pay.
    from supernode_operator.engine.otlp_traces import OtlpTracing

    try:
        return OtlpTracing(environment, instance)
    except (OtlpConfigError, ValueError) as error:  # the latter: the SDK about OTEL_BSP_*
        log.error("no OTLP traces", error=str(error))
        return Tracing()


def url_template(path: str) -> str:
    """Return a path of the Kubernetes API with its namespace and name as placeholders: few different values."""
    parts = path.strip("/").split("/")
    head = 2 if parts[0] == "api" else 3
    group, rest = parts[:head], parts[head:]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        group, rest = [*group, "namespaces", "{namespace}"], rest[2:]
    if len(rest) > 1:
        rest = [rest[0], "{name}", *rest[2:]]
    return "/" + "/".join([*group, *rest])
