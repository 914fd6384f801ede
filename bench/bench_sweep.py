"""A large grid through `supernode sweep`: scenarios to rows with error bars, on one core."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rows import Row
from supernode_cli.sweep_points import Grid
from supernode_cli.sweep_rows import rows_of
from support.scenarios import r1_scenario

__all__ = ["measure"]

_DECODE = r1_scenario(20, "Decode", 4096, 256, batch={"sequencesPerCard": 96}, decode={"experts": {"redundant": 64}})
_OF_DECODE = (
    ("inference.inputTokens", tuple(range(512, 8192, 192))),
    ("inference.outputTokens", tuple(range(64, 1088, 64))),
    ("inference.batch.sequencesPerCard", tuple(range(2, 102, 2))),
)
_DENSE = {
    "model": {"name": "llama-3.1-405b"},
    "training": {
        "sequenceLength": 8192,
        "globalBatchSize": 192,
        "parallelism": {"tensor": 16, "pipeline": 8, "virtualPipeline": 4},
    },
}
_EXPERTS = {
    "model": {"name": "deepseek-v3"},
    "training": {
        "sequenceLength": 4096,
        "globalBatchSize": 3840,
        "parallelism": {"tensor": 2, "pipeline": 8, "virtualPipeline": 2, "expert": 16},
        "expertImbalance": 1.0,
        "recompute": "full",
    },
}
_OF_DENSE = (
    ("training.sequenceLength", tuple(range(1024, 16384 + 1024, 1024))),
    ("training.globalBatchSize", tuple(range(24, 24 * 251, 24))),
    ("training.microBatchSize", (1, 2, 4)),
)
_OF_EXPERTS = (
    ("training.sequenceLength", tuple(range(512, 4096 + 512, 512))),
    ("training.globalBatchSize", tuple(range(96, 96 * 76, 96))),
    ("training.expertImbalance", tuple(1.0 + step / 20 for step in range(20))),
)
_MOST_MICROSECONDS = 200.0


def measure() -> Iterator[Row]:
    """Measure rows as a table gets them; the budget is that of the vectorised path."""
    yield _swept("200 us for each point of a sweep, one core", Grid(_DECODE, _OF_DECODE), "scenarios")
    yield _swept(
        "200 us for each point of a sweep of training, one core",
        Grid(_DENSE, _OF_DENSE),
        "LLaMA-3.1-405B on 384 packages, batches and lengths",
    )
    yield _swept(
        "200 us for each point of a sweep of training with experts, one core",
        Grid(_EXPERTS, _OF_EXPERTS),
        "DeepSeek-V3 on 384 packages, batches, lengths and imbalance",
    )


def _swept(what: str, points: Grid, of: str) -> Row:
    next(rows_of(points, range(1), 1))
    start = time.perf_counter()
    rows = list(rows_of(points, range(len(points)), 1))
    seconds = time.perf_counter() - start
    run = sum(row["expectedErrorPercent"] is not None for row in rows)
    how = f"{len(rows) / seconds:,.0f} points/s, {len(rows):,} {of} to rows, {run:,} of which run, with error bars"
    return Row(what, seconds / len(rows) * 1e6, "us", _MOST_MICROSECONDS, how)
