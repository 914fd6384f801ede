"""The operator's own metrics, named as controller-runtime names them, on a registry of our own.

``docs/telemetry.md`` has a table of them; a test compares.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """All instruments; one instance for each process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconciles = Counter(
            "controller_runtime_reconcile_total",
            "Reconciliations by outcome: success, requeue (what was read is no longer so) or error.",
            ("controller", "result"),
            registry=self.registry,
        )
        self.reconcile_errors = Counter(
            "controller_runtime_reconcile_errors_total",
            "Reconciliations that failed; each is tried again, later each time, up to 60 s.",
            ("controller",),
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Time of one reconciliation, its requests included.",
            ("controller",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.depth = Gauge("workqueue_depth", "Keys that are due and wait for a worker.", registry=self.registry)
        self.queue_seconds = Histogram(
            "workqueue_queue_duration_seconds",
            "Time that a key waited for a worker once it was due.",
            ("controller",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.retries = Counter(
            "workqueue_retries",
            "Keys queued again after a failure or a conflict.",
            ("controller",),
            registry=self.registry,
        )
        self._add_api_server()

    def _add_api_server(self) -> None:
        """Make the instruments of what is between us and the API server."""
        self.requests = Counter(
            "rest_client_requests",
            "Requests to the API server, watches apart, by HTTP status; error: no answer came.",
            ("method", "code"),
            registry=self.registry,
        )
        self.leader = Gauge(
            "leader_election_master_status",
            "1 while this replica leads; absent where it does not.",
            ("name",),
            registry=self.registry,
        )
        self.watch_events = Counter(
            "supernode_operator_watch_events",
            "Objects that watches brought: ADDED, MODIFIED, DELETED, or LISTED when a watch starts.",
            ("kind", "type"),
            registry=self.registry,
        )
        self.watch_restarts = Counter(
            "supernode_operator_watch_restarts",
            "Watches that started over with a list.",
            ("kind",),
            registry=self.registry,
        )
        self.objects = Gauge(
            "supernode_operator_cached_objects", "Objects in the cache.", ("kind",), registry=self.registry
        )

    def render(self) -> bytes:
        """Return the text exposition."""
        return generate_latest(self.registry)
