"""OTLP metrics over gRPC: observable instruments that read the latest snapshot's arrays when the reader asks.

Endpoint, headers, TLS, compression and timeouts are the standard OTEL_* variables. Collecting and sending happen in
the SDK's own thread: an endpoint that is down or slow delays nothing else, and is logged once per transition. The
pipeline is built anew when interval or detail change; counters then restart, as their start time says.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from supernode_cabinet.catalogue import INSTRUMENTS, rows_of
from supernode_cabinet.entities import attributes_of
from supernode_cabinet.integrate import Integrator
from supernode_cabinet.metric import Row, Scope
from supernode_cabinet.prometheus import is_published
from supernode_cabinet.settings import Settings
from supernode_cabinet.snapshot import Snapshot

__all__ = ["CARDINALITY_LIMIT", "POINTS_PER_MESSAGE", "Telemetry"]

_log = logging.getLogger(__name__)

CARDINALITY_LIMIT: Final = 100_000
"""Attribute sets of one instrument, three times what a whole supernode in one pod has; the default is 2,000."""
POINTS_PER_MESSAGE: Final = 6_000
"""A point is at most about 400 bytes, so that a message stays well below the 4 MiB that gRPC receivers take."""
_TIMEOUT_SECONDS: Final = 5.0
_SHUTDOWN_MILLISECONDS: Final = 1_500
_VOLATILE: Final = frozenset({Scope.HOLDER, Scope.WORKLOAD, Scope.MODEL})
_VOLATILE_LIMIT: Final = 20_000
"""The SDK never forgets an attribute set; after so many that came and went the pipeline is built anew."""
_SILENCED: Final = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk.metrics._internal.export")


class Telemetry:
    """The OTLP pipeline of one cabinet."""

    def __init__(self, settings: Settings, count_export: Callable[[bool], None] = lambda _: None) -> None:
        self._resource = _build_resource(settings)
        self._count_export = count_export
        self._pipeline: _Pipeline | None = None
        for name in _SILENCED:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def update(self, snapshot: Snapshot) -> None:
        """Publish this snapshot from now on. May wait for an export under way when interval or detail changed."""
        if self._pipeline is not None and self._pipeline.takes(snapshot):
            self._pipeline.update(snapshot)
            return
        self.stop()
        self._pipeline = _Pipeline(self._resource, snapshot, self._count_export)

    def stop(self) -> None:
        """Send what there is and stop; waits at most a moment. Idempotent."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.stop()


class _Pipeline:
    """Reader, exporter and instruments for one interval and one set of rows."""

    def __init__(self, resource: Resource, snapshot: Snapshot, count_export: Callable[[bool], None]) -> None:
        self._snapshot = snapshot
        self._seen = 0
        rows = tuple(row for row in rows_of(snapshot.detail) if row.otel and is_published(snapshot, row))
        counting = tuple(row for row in rows if INSTRUMENTS[row.otel].kind == "Counter")
        self._integrator = Integrator(counting, snapshot, time.monotonic_ns())
        interval = float(snapshot.interval_seconds)
        reader = PeriodicExportingMetricReader(
            _Exporter(count_export, interval),
            export_interval_millis=interval * 1000,
            export_timeout_millis=_TIMEOUT_SECONDS * 1000,
        )
        view = View(instrument_name="*", aggregation_cardinality_limit=CARDINALITY_LIMIT)
        self._provider = MeterProvider([reader], resource=resource, views=[view], shutdown_on_exit=False)
        meter = self._provider.get_meter("supernode.cabinet", snapshot.state.version)
        for name in dict.fromkeys(row.otel for row in rows):
            self._create(meter, name, tuple(row for row in rows if row.otel == name))

    def takes(self, snapshot: Snapshot) -> bool:
        """Return whether the pipeline can go on with this snapshot."""
        mine = self._snapshot
        return (
            mine.detail == snapshot.detail
            and mine.interval_seconds == snapshot.interval_seconds
            and mine.profile is snapshot.profile
            and mine.shard == snapshot.shard
            and self._seen < _VOLATILE_LIMIT
        )

    def update(self, snapshot: Snapshot) -> None:
        self._integrator.advance(snapshot, time.monotonic_ns())
        if snapshot.holders != self._snapshot.holders or snapshot.state is not self._snapshot.state:
            self._seen += sum(len(attributes_of(snapshot, scope)) for scope in _VOLATILE)
        self._snapshot = snapshot

    def stop(self) -> None:
        # The last export may wait for an endpoint that is away; leaving must not.
        thread = threading.Thread(target=self._shutdown, name="otlp-shutdown", daemon=True)
        thread.start()
        thread.join(_SHUTDOWN_MILLISECONDS / 1000 + 0.5)

    def _shutdown(self) -> None:
        self._provider.shutdown(timeout_millis=_SHUTDOWN_MILLISECONDS)

    def _create(self, meter: Meter, name: str, rows: tuple[Row, ...]) -> None:
        instrument = INSTRUMENTS[name]
        create: Mapping[str, Callable[..., Any]] = {
            "Gauge": meter.create_observable_gauge,
            "UpDownCounter": meter.create_observable_up_down_counter,
            "Counter": meter.create_observable_counter,
        }

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            snapshot = self._snapshot
            return [point for row in rows for point in self._points(snapshot, row)]

        create[instrument.kind](name, [observe], instrument.unit, instrument.description)

    def _points(self, snapshot: Snapshot, row: Row) -> list[Observation]:
        counting = INSTRUMENTS[row.otel].kind == "Counter"
        values = self._integrator.total(row, time.monotonic_ns()) if counting else row.read(snapshot)
        numbers = values.astype("int64").tolist() if row.integer or counting else values.tolist()
        sets = attributes_of(snapshot, row.scope)
        if row.attributes:
            sets = [{**attributes, **row.attributes} for attributes in sets]
        return [Observation(number, attributes) for number, attributes in zip(numbers, sets, strict=True)]


class _Exporter(OTLPMetricExporter):
    """The SDK's exporter, which says once when the endpoint is lost and once when it is back."""

    def __init__(self, count_export: Callable[[bool], None], interval_seconds: float) -> None:
        configured = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT") or os.environ.get(
            "OTEL_EXPORTER_OTLP_TIMEOUT"
        )
        timeout = None if configured else min(_TIMEOUT_SECONDS, max(interval_seconds, 1.0))
        super().__init__(timeout=timeout, max_export_batch_size=POINTS_PER_MESSAGE)
        self._count_export = count_export
        self._works: bool | None = None

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Export, count and log transitions."""
        try:
            result = super().export(metrics_data, timeout_millis, **kwargs)
        except Exception as error:  # the loop's edge: telemetry never ends its thread
            _log.debug("OTLP export: %s", error, exc_info=True)
            result = MetricExportResult.FAILURE
        works = result is MetricExportResult.SUCCESS
        self._count_export(works)
        if works is not self._works:
            if works:
                _log.info("OTLP endpoint %s takes metrics", self._endpoint)
            else:
                _log.warning("OTLP endpoint %s does not take metrics; the machine goes on without", self._endpoint)
        self._works = works
        return result


def _build_resource(settings: Settings) -> Resource:
    attributes: dict[str, Any] = {
        "service.name": "supernode-cabinet",
        "service.instance.id": settings.pod_name,
        "k8s.pod.name": settings.pod_name,
        "supernode.name": settings.super_node,
        "supernode.cabinet.role": settings.role,
    }
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over ours.
    return Resource(attributes).merge(OTELResourceDetector().detect())
