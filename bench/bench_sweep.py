"""A large grid through `supernode sweep`: scenarios to rows with error bars, on one core."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rows import Row
from supernode_cli.sweep_points import Grid
from supernode_cli.sweep_rows import rows_of
from support.scenarios import r1_scenario

__all__ = ["measure"]

_BASE = r1_scenario(20, "Decode", 4096, 256, batch={"sequencesPerCard": 96}, decode={"experts": {"redundant": 64}})
_AXES = (
    ("inference.inputTokens", tuple(range(512, 8192, 192))),
    ("inference.outputTokens", tuple(range(64, 1088, 64))),
    ("inference.batch.sequencesPerCard", tuple(range(2, 102, 2))),
)


def measure() -> Iterator[Row]:
    """Measure rows as a table gets them; the budget is that of the vectorised path."""
    points = Grid(_BASE, _AXES)
    next(rows_of(points, range(1), 1))
    start = time.perf_counter()
    rows = list(rows_of(points, range(len(points)), 1))
    seconds = time.perf_counter() - start
    run = sum(row["expectedErrorPercent"] is not None for row in rows)
    how = f"{len(rows) / seconds:,.0f} points/s, {len(rows):,} scenarios to rows, {run:,} of which run, with error bars"
    yield Row("200 us for each point of a sweep, one core", seconds / len(rows) * 1e6, "us", 200.0, how)
