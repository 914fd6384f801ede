"""The latest snapshot, and the text rendered from it: where the watching side and the serving side meet.

Rendering happens on the first request after a change and is kept; the npu-exporter pages keep holes for their
timestamps, and histograms, which grow with time, are rendered at each request. Thread-safe: one writer, many readers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from supernode_cabinet.npu_exporter import Template, render_server
from supernode_cabinet.prometheus import render_histograms, render_metrics
from supernode_cabinet.served import Served
from supernode_cabinet.snapshot import Snapshot

__all__ = ["Board"]


class Board:
    """Holds what is served, and what has been since it was made."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """``clock`` returns monotonic nanoseconds."""
        self._clock = clock
        self.served = Served(time.time_ns(), clock())
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._cache: dict[Any, Any] = {}
        self._ready = False
        self._why = "nothing is solved yet"

    @property
    def snapshot(self) -> Snapshot | None:
        """Return the latest snapshot; None before the first, and while the SuperNode does not exist."""
        return self._snapshot

    @property
    def ready(self) -> bool:
        """Whether a snapshot was ever published: a lost API server does not take readiness away."""
        return self._ready

    @property
    def why(self) -> str:
        """Return why there is no snapshot."""
        return self._why

    def publish(self, snapshot: Snapshot) -> None:
        """Serve this snapshot from now on."""
        self.served.follow(snapshot, self._clock())
        with self._lock:
            self._snapshot, self._cache, self._ready, self._why = snapshot, {}, True, ""

    def withdraw(self, why: str) -> None:
        """Serve nothing, for this reason."""
        self.served.follow(None, self._clock())
        with self._lock:
            self._snapshot, self._cache, self._why = None, {}, why

    def metrics_text(self, *, openmetrics: bool = False) -> str:
        """Return the labelled metrics of the latest snapshot; empty without one."""
        snapshot = self._snapshot
        if snapshot is None:
            return ""
        text: str = self._rendered(snapshot, openmetrics, lambda: render_metrics(snapshot, openmetrics=openmetrics))
        return text + render_histograms(self.served.read(self._clock()), openmetrics=openmetrics)

    def npu_text(self, server: int, now_milliseconds: int) -> str | None:
        """Return one server's npu-exporter page at a moment; None when this shard does not have the server."""
        snapshot = self._snapshot
        if snapshot is None or server not in snapshot.shard.servers:
            return None
        template: Template = self._rendered(snapshot, server, lambda: render_server(snapshot, server))
        return str(now_milliseconds).join(template)

    def _rendered(self, snapshot: Snapshot, key: Any, render: Any) -> Any:
        # bool and int keys must not meet: True == 1.
        key = (type(key).__name__, key)
        with self._lock:
            if self._snapshot is snapshot and key in self._cache:
                return self._cache[key]
        value = render()
        with self._lock:
            if self._snapshot is snapshot:
                self._cache[key] = value
        return value
