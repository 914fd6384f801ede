"""From a snapshot to OTLP requests: which points there are, in which messages, with which values. No clock, no I/O.

What a shard always has (dies, ports, chips) is encoded once; what comes and goes (holders, workloads, the digest) with
each new snapshot. Requests are cut at :data:`REQUEST_BYTES`, far below the 4 MiB that gRPC receivers take by default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from supernode_cabinet.catalogue import INSTRUMENTS, rows_of
from supernode_cabinet.entities import attributes_of
from supernode_cabinet.integrate import Integrator
from supernode_cabinet.metric import Row, Scope
from supernode_cabinet.otlp_wire import (
    Points,
    encode_attributes,
    encode_histogram_point,
    encode_metric_head,
    field,
    varint,
)
from supernode_cabinet.prometheus import is_published
from supernode_cabinet.served import Histogram, Served
from supernode_cabinet.snapshot import Snapshot

__all__ = ["REQUEST_BYTES", "Layout"]

REQUEST_BYTES: Final = 1 << 19
_CHUNK_BYTES: Final = REQUEST_BYTES // 2
_SCOPE_NAME: Final = "supernode.cabinet"
_VOLATILE: Final = frozenset({Scope.HOLDER, Scope.WORKLOAD, Scope.MODEL})
_POINT_ATTRIBUTES: Final = 7
_HISTOGRAMS: Final = 256
"""Points of histograms in a request: each has less than 2 KiB."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A row's points, or a part of them."""

    row: Row
    first: int
    points: Points


class Layout:
    """The points of one shard at one level of detail; counters start with it, histograms when ``served`` says."""

    def __init__(
        self,
        resource: Mapping[str, str],
        snapshot: Snapshot,
        start_nanoseconds: int,
        monotonic: int,
        served: Served | None = None,
    ) -> None:
        order = list(INSTRUMENTS)  # one metric's rows follow one another, so that they are one Metric in a request
        rows = [r for r in rows_of(snapshot.detail) if r.otel and is_published(snapshot, r)]
        self.rows = tuple(sorted(rows, key=lambda row: order.index(row.otel)))
        self._resource = field(1, encode_attributes(resource, 1))
        self._scope = field(1, field(1, _SCOPE_NAME.encode()) + field(2, snapshot.state.version.encode()))
        self._start = start_nanoseconds
        self._served = served
        self._snapshot = snapshot
        counting = tuple(row for row in self.rows if INSTRUMENTS[row.otel].kind == "Counter")
        self._integrator = Integrator(counting, snapshot, monotonic)
        self._fixed = _encode(snapshot, [row for row in self.rows if row.scope not in _VOLATILE])
        self._volatile: dict[Row, list[_Chunk]] = {}
        self._volatile_of: Snapshot | None = None

    def takes(self, snapshot: Snapshot) -> bool:
        """Return whether the points are still the right ones; else a new layout is needed and counters restart."""
        mine = self._snapshot
        same = mine.profile is snapshot.profile and mine.shard == snapshot.shard
        return same and mine.detail == snapshot.detail

    def update(self, snapshot: Snapshot, monotonic: int) -> None:
        """Go on with this snapshot."""
        self._integrator.advance(snapshot, monotonic)
        self._snapshot = snapshot

    def requests(self, time_nanoseconds: int, monotonic: int) -> Iterator[bytes]:
        """Yield ExportMetricsServiceRequests with the values at this time; for one thread, while others may update."""
        snapshot = self._snapshot  # also when update() brings the next one meanwhile
        values = {row: self._values(snapshot, row, monotonic) for row in self.rows}
        batch: list[_Chunk] = []
        size = 0
        for row in self.rows:
            for chunk in self._chunks_of(snapshot, row):
                if batch and size + chunk.points.size > REQUEST_BYTES:
                    yield self._request(batch, values, time_nanoseconds)
                    batch, size = [], 0
                batch.append(chunk)
                size += chunk.points.size
        if batch:
            yield self._request(batch, values, time_nanoseconds)
        histograms = [] if self._served is None else self._served.read(monotonic)
        for first in range(0, len(histograms), _HISTOGRAMS):
            yield self._histograms(histograms[first : first + _HISTOGRAMS], time_nanoseconds)

    def _chunks_of(self, snapshot: Snapshot, row: Row) -> list[_Chunk]:
        if row in self._fixed:
            return self._fixed[row]
        if self._volatile_of is not snapshot:
            self._volatile = _encode(snapshot, [r for r in self.rows if r.scope in _VOLATILE])
            self._volatile_of = snapshot
        return self._volatile[row]

    def _values(self, snapshot: Snapshot, row: Row, monotonic: int) -> NDArray[Any]:
        counts = INSTRUMENTS[row.otel].kind == "Counter"
        return self._integrator.total(row, monotonic) if counts else row.read(snapshot)

    def _request(self, chunks: list[_Chunk], values: Mapping[Row, NDArray[Any]], now: int) -> bytes:
        parts: list[bytes] = []
        for name, group in groupby(chunks, key=lambda chunk: chunk.row.otel):
            same = list(group)
            instrument = INSTRUMENTS[name]
            size = sum(chunk.points.size for chunk in same)
            parts.append(encode_metric_head(name, instrument.description, instrument.unit, instrument.kind, size))
            for chunk in same:
                mine = values[chunk.row][chunk.first : chunk.first + len(chunk.points)]
                parts.append(chunk.points.encode(mine, self._start, now))
        return self._wrapped(parts)

    def _histograms(self, histograms: list[Histogram], now: int) -> bytes:
        parts: list[bytes] = []
        for name, group in groupby(histograms, key=lambda one: one.row.otel):
            points = b"".join(
                encode_histogram_point(
                    one.attributes, one.row.bounds, one.counts, one.sum_seconds, (one.start_nanoseconds, now)
                )
                for one in group
            )
            instrument = INSTRUMENTS[name]
            head = encode_metric_head(name, instrument.description, instrument.unit, instrument.kind, len(points))
            parts += (head, points)
        return self._wrapped(parts)

    def _wrapped(self, parts: list[bytes]) -> bytes:
        metrics = len(self._scope) + sum(map(len, parts))
        scope_head = varint(2 << 3 | 2) + varint(metrics) + self._scope
        body = len(self._resource) + len(scope_head) + metrics - len(self._scope)
        head = varint(1 << 3 | 2) + varint(body) + self._resource + scope_head
        return b"".join((head, *parts))


def _encode(snapshot: Snapshot, rows: list[Row]) -> dict[Row, list[_Chunk]]:
    scopes = {
        scope: [encode_attributes(one, _POINT_ATTRIBUTES) for one in attributes_of(snapshot, scope)]
        for scope in {row.scope for row in rows}
    }
    return {row: _chunks(row, scopes[row.scope]) for row in rows}


def _chunks(row: Row, entities: list[bytes]) -> list[_Chunk]:
    more = encode_attributes(row.attributes, _POINT_ATTRIBUTES)
    integer = row.integer or INSTRUMENTS[row.otel].kind == "Counter"
    return [
        _Chunk(row, first, Points(entities[first:last], more, integer=integer))
        for first, last in _cuts(entities, len(more))
    ]


def _cuts(encoded: list[bytes], more: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of points that stay below the size of a chunk; each has so many bytes more."""
    ends = np.cumsum([len(one) + more + 32 for one in encoded])
    first = 0
    while first < len(encoded):
        before = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, before + _CHUNK_BYTES)), first + 1)
        yield first, last
        first = last
