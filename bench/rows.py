"""One measured budget."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured budget."""

    what: str
    value: float
    unit: str
    budget: float
    how: str

    @property
    def ratio(self) -> float:
        """Measured over budget: at most 1 is within it."""
        return self.value / self.budget if self.budget else (0.0 if self.value == 0 else float("inf"))


def median_and_least(function: Callable[[], object], runs: int) -> tuple[float, float]:
    """Return the median and the least of so many runs, seconds; one more runs first, to warm up."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times), min(times)
