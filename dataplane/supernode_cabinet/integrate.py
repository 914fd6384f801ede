"""Counters from rates: bytes through ports since the process started, exact for rates that change in steps."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from supernode_cabinet.metric import Row
from supernode_cabinet.snapshot import Snapshot

__all__ = ["Integrator"]

_NANOSECONDS: Final = 1e9


class Integrator:
    """Adds rate x time for each counting row. Moments come in as monotonic nanoseconds. Thread-safe."""

    def __init__(self, rows: tuple[Row, ...], snapshot: Snapshot, now_nanoseconds: int) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._then = now_nanoseconds
        self._rates = self._read(snapshot)
        self._totals = [np.zeros(rates.shape) for rates in self._rates]

    def advance(self, snapshot: Snapshot, now_nanoseconds: int) -> None:
        """Count what the rates so far amount to until now, and go on with this snapshot's rates."""
        with self._lock:
            self._count(now_nanoseconds)
            self._rates = self._read(snapshot)

    def total(self, row: Row, now_nanoseconds: int) -> NDArray[np.float64]:
        """Return what a row has counted until now."""
        with self._lock:
            self._count(now_nanoseconds)
            return self._totals[self._rows.index(row)].copy()

    def _count(self, now: int) -> None:
        seconds = max(now - self._then, 0) / _NANOSECONDS
        self._then = max(now, self._then)
        for total, rates in zip(self._totals, self._rates, strict=True):
            np.add(total, rates * seconds, out=total)

    def _read(self, snapshot: Snapshot) -> list[NDArray[Any]]:
        return [row.read(snapshot).astype(np.float64) for row in self._rows]
