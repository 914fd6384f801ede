"""One measured budget, and how it is shown."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One measured budget."""

    what: str
    value: float
    unit: str
    budget: float | None
    """None where there is none: the row says what something takes beside one that has a budget."""
    how: str

    @property
    def ratio(self) -> float:
        """Measured over budget: at most 1 is within it."""
        if self.budget is None:
            return 0.0
        return self.value / self.budget if self.budget else (0.0 if self.value == 0 else float("inf"))


def render(rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    lines = ["| what | measured | budget | ratio | how |", "|---|---:|---:|---:|---|"]
    return "\n".join([*lines, *(render_row(row) for row in rows)])


def render_row(row: Row) -> str:
    """Return a row in Markdown."""
    if row.budget is None:
        return f"| {row.what} | {row.value:.4g} {row.unit} | none |  | {row.how} |"
    mark = "" if row.ratio <= 1 else " **over**"
    figures = f"{row.value:.4g} {row.unit} | {row.budget:.4g} {row.unit} | {_ratio(row.ratio)}{mark}"
    return f"| {row.what} | {figures} | {row.how} |"


def _ratio(ratio: float) -> str:
    """Return two decimals, or two digits of what is less."""
    return f"{ratio:.2f}" if ratio >= 0.1 or not ratio else f"{ratio:.2g}"


def median_and_least(
    function: Callable[[], object], runs: int, clock: Callable[[], float] = time.process_time
) -> tuple[float, float]:
    """Return the median and the least of so many runs, seconds; one more runs first, to warm up.

    It is processor time by default: what else runs on the machine, or on the one below it, is no part of a computation.
    """
    function()
    times = []
    for _ in range(runs):
        start = clock()
        function()
        times.append(clock() - start)
    return statistics.median(times), min(times)


def resident_mebibytes(process: Path) -> float:
    """Return what a process has in memory, by its folder in /proc; 0 when it is gone."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text(encoding="utf-8"))
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
