"""The cabinet's own metrics, in Prometheus text: is it connected, what does solving cost, does OTLP get through."""

from __future__ import annotations

import resource
import threading
import time
from pathlib import Path

__all__ = ["HealthMetrics"]


class HealthMetrics:
    """Counters of this process; they restart with it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.time()
        self.api_connected = False
        self._solves = 0
        self._solve_seconds = 0.0
        self._last_solve_seconds = 0.0
        self._exports = {"success": 0, "failure": 0}

    def count_solve(self, seconds: float) -> None:
        """Count one update of the snapshot."""
        with self._lock:
            self._solves += 1
            self._solve_seconds += seconds
            self._last_solve_seconds = seconds

    def count_export(self, success: bool) -> None:
        """Count one OTLP export."""
        with self._lock:
            self._exports["success" if success else "failure"] += 1

    def render(self, *, openmetrics: bool = False) -> str:
        """Render them, without the end mark of OpenMetrics."""
        with self._lock:
            parts = [
                _family(
                    "supernode_cabinet_api_connected",
                    "gauge",
                    "Whether the API server is watched: 1 or 0.",
                    openmetrics,
                ),
                f"supernode_cabinet_api_connected {int(self.api_connected)}\n",
                _family(
                    "supernode_cabinet_updates_total", "counter", "Updates computed from changed inputs.", openmetrics
                ),
                f"supernode_cabinet_updates_total {self._solves}\n",
                _family("supernode_cabinet_update_seconds_total", "counter", "Time spent on updates.", openmetrics),
                f"supernode_cabinet_update_seconds_total {self._solve_seconds:.6g}\n",
                _family(
                    "supernode_cabinet_last_update_seconds", "gauge", "Time that the last update took.", openmetrics
                ),
                f"supernode_cabinet_last_update_seconds {self._last_solve_seconds:.6g}\n",
                _family("supernode_cabinet_otlp_exports_total", "counter", "OTLP exports by result.", openmetrics),
            ]
            parts += [
                f'supernode_cabinet_otlp_exports_total{{result="{key}"}} {n}\n' for key, n in self._exports.items()
            ]
        usage = resource.getrusage(resource.RUSAGE_SELF)
        parts += [
            _family("process_cpu_seconds_total", "counter", "CPU time of the process.", openmetrics),
            f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime:.6g}\n",
            _family("process_resident_memory_bytes", "gauge", "Resident memory of the process.", openmetrics),
            f"process_resident_memory_bytes {_resident_bytes()}\n",
            _family("process_start_time_seconds", "gauge", "Start of the process, since 1970.", openmetrics),
            f"process_start_time_seconds {self._started:.3f}\n",
        ]
        return "".join(parts)


def _family(name: str, kind: str, text: str, openmetrics: bool) -> str:
    if openmetrics and kind == "counter":
        name = name.removesuffix("_total")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0
