"""Requests served since the process started, counted into the buckets of :mod:`supernode_cabinet.histograms`.

    requests done = whole requests in rate x time, rates constant between two snapshots
    bucket        that of the request's time while its rate held; sum = requests x that time

Counts depend on the rates and the moments of their changes alone, not on when or how often they are read. A workload
that waits keeps its counts; one that is gone is forgotten, and begins anew with a start time of its own. Nothing is
kept over a restart. Moments come in as monotonic nanoseconds.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from supernode_cabinet.entities import attributes_of, labels_of
from supernode_cabinet.histograms import HISTOGRAMS, HistogramRow, ServedWorkload, served_workloads
from supernode_cabinet.metric import Scope
from supernode_cabinet.snapshot import Snapshot

__all__ = ["Histogram", "Served"]

_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Histogram:
    """One series at one moment."""

    row: HistogramRow
    labels: str
    """As they stand in Prometheus text, without braces."""
    attributes: dict[str, str | int]
    start_nanoseconds: int
    """Since 1970: when its counting began."""
    counts: tuple[int, ...]
    """Requests in each bucket, not cumulative; one more than there are bounds."""
    sum_seconds: float

    @property
    def count(self) -> int:
        """Return the requests in all buckets."""
        return sum(self.counts)


@dataclass(slots=True)
class _Series:
    """One workload's requests: what was done under earlier rates, and the rate since."""

    start: int
    labels: str
    attributes: dict[str, str | int]
    workload: ServedWorkload
    since: int
    begun: Fraction = Fraction(0)
    """The part of a request that was done when the present rate began."""
    counts: dict[HistogramRow, list[int]] = field(default_factory=dict)
    sums: dict[HistogramRow, float] = field(default_factory=dict)

    def done(self, now: int) -> Fraction:
        """Return the requests, whole and begun, under the present rate."""
        rate = Fraction(self.workload.requests_per_second)
        return self.begun + rate * Fraction(max(now - self.since, 0), _NANOSECONDS)

    def values(self, row: HistogramRow, whole: int) -> tuple[list[int], float]:
        """Return counts by bucket, and the sum, with so many whole requests under the present rate."""
        counts = list(self.counts.get(row, [0] * (len(row.bounds) + 1)))
        total, seconds = self.sums.get(row, 0.0), row.seconds(self.workload)
        if seconds > 0:
            counts[bisect_left(row.bounds, seconds)] += whole
            total += whole * seconds
        return counts, total

    def go_on(self, workload: ServedWorkload, now: int) -> None:
        """Keep what was done until now, and go on at another rate."""
        done = self.done(now)
        for row in HISTOGRAMS:
            self.counts[row], self.sums[row] = self.values(row, int(done))
        self.begun = done % 1
        self.workload, self.since = workload, now


class Served:
    """Counts the requests of every inference workload of the snapshots that it is shown. Thread-safe."""

    def __init__(self, epoch_nanoseconds: int, now: int) -> None:
        """``epoch_nanoseconds`` is the moment ``now`` since 1970."""
        self._lock = threading.Lock()
        self._epoch = epoch_nanoseconds - now
        self._series: dict[tuple[str, str, str, str, str], _Series] = {}

    def follow(self, snapshot: Snapshot | None, now: int) -> None:
        """Count on with the rates of this snapshot; None: there is no machine, forget all."""
        with self._lock:
            before, self._series = self._series, {}
            if snapshot is None or not snapshot.shard.whole:
                return
            texts, attributes = labels_of(snapshot, Scope.REQUEST), attributes_of(snapshot, Scope.REQUEST)
            for one, text, more in zip(served_workloads(snapshot), texts, attributes, strict=True):
                key = (one.namespace, one.name, one.uid, one.model, one.mode)
                series = before.get(key)
                if series is None:
                    series = _Series(self._epoch + now, text, more, one, now)
                elif series.workload.result != one.result:
                    series.go_on(one, now)
                self._series[key] = series

    def read(self, now: int) -> list[Histogram]:
        """Return every series at a moment, all of one metric together."""
        with self._lock:
            done = [(series, int(series.done(now))) for series in self._series.values()]
            return [
                Histogram(row, one.labels, one.attributes, one.start, tuple(counts), total)
                for row in HISTOGRAMS
                for one, whole in done
                if one.workload.mode != row.left_out
                for counts, total in [one.values(row, whole)]
            ]
