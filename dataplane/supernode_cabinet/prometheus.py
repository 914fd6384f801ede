"""``/metrics``: the clean, labelled form, as Prometheus text 0.0.4 or OpenMetrics 1.0. Pure rendering.

Text is written directly: a scrape of one cabinet has several thousand lines, and the label part of each is known
beforehand. Workloads and totals come from the first compute cabinet alone, so that sums over cabinets are right.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from supernode_cabinet.catalogue import rows_of
from supernode_cabinet.entities import labels_of
from supernode_cabinet.metric import Row, Scope
from supernode_cabinet.served import Histogram
from supernode_cabinet.snapshot import Snapshot

__all__ = [
    "CONTENT_TYPE",
    "OPENMETRICS_TYPE",
    "format_value",
    "is_published",
    "render_histograms",
    "render_metrics",
]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_UNITS: Final = ("bytes_per_second", "tokens_per_second", "bytes", "watts", "celsius", "seconds", "ratio")
_ONCE: Final = frozenset({Scope.WORKLOAD, Scope.MACHINE})


def is_published(snapshot: Snapshot, row: Row) -> bool:
    """Return whether this shard publishes the row at all."""
    return snapshot.shard.whole or row.scope not in _ONCE


def render_metrics(snapshot: Snapshot, *, openmetrics: bool = False) -> str:
    """Render all rows of the snapshot's level of detail, without the end mark of OpenMetrics."""
    parts: list[str] = []
    for row in rows_of(snapshot.detail):
        if row.prometheus and is_published(snapshot, row):
            _render_row(parts, snapshot, row, openmetrics)
    return "".join(parts)


def render_histograms(histograms: Iterable[Histogram], *, openmetrics: bool = False) -> str:
    """Render histograms, all of one metric together, without the end mark of OpenMetrics."""
    parts: list[str] = []
    name = ""
    for one in histograms:
        if one.row.prometheus != name:
            name = one.row.prometheus
            unit = f"# UNIT {name} seconds\n" if openmetrics else ""
            parts.append(f"# HELP {name} {one.row.help}\n# TYPE {name} histogram\n{unit}")
        bounds = (*(repr(bound) for bound in one.row.bounds), "+Inf")
        parts.extend(
            f'{name}_bucket{{{one.labels},le="{bound}"}} {count}\n'
            for bound, count in zip(bounds, accumulate(one.counts), strict=True)
        )
        parts.append(f"{name}_sum{{{one.labels}}} {one.sum_seconds!r}\n{name}_count{{{one.labels}}} {one.count}\n")
    return "".join(parts)


def format_value(value: float, *, integer: bool = False) -> str:
    """Format a sample value: whole numbers exactly, others with nine significant digits."""
    return str(int(value)) if integer else f"{value:.9g}"


def _render_row(parts: list[str], snapshot: Snapshot, row: Row, openmetrics: bool) -> None:
    name = row.prometheus
    labels = labels_of(snapshot, row.scope)
    if not labels:
        return
    parts.append(_head(row, openmetrics))
    values = row.read(snapshot).tolist()
    # Joined row by row: a page's lines, all at once, would cost its size three times over.
    if row.integer:
        lines = (f"{name}{{{label}}} {int(value)}\n" for label, value in zip(labels, values, strict=True))
    else:
        lines = (f"{name}{{{label}}} {value:.9g}\n" for label, value in zip(labels, values, strict=True))
    parts.append("".join(lines))


def _head(row: Row, openmetrics: bool) -> str:
    name = row.prometheus
    if not openmetrics:
        return f"# HELP {name} {row.help}\n# TYPE {name} gauge\n"
    if name.endswith("_info"):
        family = name.removesuffix("_info")
        return f"# TYPE {family} info\n# HELP {family} {row.help}\n"
    unit = next((unit for unit in _UNITS if name.endswith("_" + unit)), "")
    line = f"# UNIT {name} {unit}\n" if unit else ""
    return f"# TYPE {name} gauge\n{line}# HELP {name} {row.help}\n"
