"""Points of a sweep as rows: the fields in which they differ, what the machine makes of them, or why it cannot."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from typing import Any, Final

from supernode_cli.errors import CliError
from supernode_cli.sweep_groups import FEWEST, Group, group_points, group_rows
from supernode_cli.sweep_points import KERNEL, Points

__all__ = ["FIGURES", "WORDS", "Row", "available_cores", "columns_of", "row_of", "rows_of"]

Row = dict[str, Any]
FIGURES: Final = (
    "tokensPerSecondPerCard",
    "tokensPerSecond",
    "promptTokensPerSecond",
    "tpotSeconds",
    "ttftSeconds",
    "stepTimeSeconds",
    "mfu",
    "bound",
    "powerKilowatts",
    "hbmGibibytesPerDie",
    "linkUtilisationPercent",
    "recomputePercent",
    "expectedErrorPercent",
    "goodputTokensPerSecondPerCard",
    "availabilityPercent",
    "wastePercent",
    "checkpointIntervalSeconds",
)
"""As `simulate` has them; numbers, but for ``bound``. The last four are of training: what failures leave of a rate."""
WORDS: Final = frozenset({"algorithm", "bound"})
"""Figures that are no numbers."""
_NOT_EVERYWHERE: Final = ("promptTokensPerSecond", "tpotSeconds", "ttftSeconds")
"""Zero where a mode has no such figure."""
_ALONE: Final = 32
"""Points that take as long as the start of a process."""
_MOST_IN_CHUNK: Final = 64
_MANY: Final = 4096
"""In a chunk where points are evaluated in groups; more at once need more memory and gain nothing. Four times as many
take as long as the start of a process."""
_IN_GROUP: Final = 8
"""Points of a mean group from which larger chunks pay."""
_AHEAD: Final = 4
"""Chunks for each process that are under way or wait to be written."""


def columns_of(points: Points) -> tuple[str, ...]:
    """Return the columns of every row, in order: figures of workloads, of kernels, or of both."""
    return ("index", *points.columns, *_figures(points.families), "error")


@cache
def _figures(families: frozenset[str]) -> tuple[str, ...]:
    from supernode_cli.kernel_evaluation import KERNEL_FIGURES

    names = FIGURES if families != {KERNEL} else ()
    return tuple(dict.fromkeys((*names, *KERNEL_FIGURES))) if KERNEL in families else names


def row_of(points: Points, number: int) -> Row:
    """Return the row of a point. A point that cannot run has its error in a column, and no figures."""
    from supernode_cli.evaluation import ScenarioError, evaluate
    from supernode_cli.goodput import training_figures
    from supernode_cli.kernel_evaluation import KERNEL_FIGURES, evaluate_kernel

    row, document = _empty(points, number), points.document(number)
    if not isinstance(document, dict):
        row["error"] = "a scenario is a mapping with training, inference or kernel"
        return row
    is_kernel = document.get(KERNEL) is not None
    try:
        if is_kernel:
            figures = evaluate_kernel(document).performance
        else:
            found = evaluate(document)
            figures = found.performance | training_figures(found.scenario, found.result)
    except ScenarioError as error:
        row["error"] = str(error)
        return row
    except Exception as error:
        # The edge of the loop: a defect that one point of a million shows is a row, not the end of the others.
        row["error"] = f"defect: {type(error).__name__}: {error}"
        return row
    known = KERNEL_FIGURES if is_kernel else FIGURES
    row |= {key: value if key in WORDS else float(value) for key, value in figures.items() if key in known}
    if is_kernel:
        return row
    for key in _NOT_EVERYWHERE:
        row[key] = row[key] or None
    if "inference" in document:
        row["recomputePercent"] = None
    return row


def _empty(points: Points, number: int) -> Row:
    row: Row = {"index": number, **dict(zip(points.columns, points.values(number), strict=True))}
    return row | dict.fromkeys((*_figures(points.families), "error"))


def available_cores() -> int:
    """Return the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def rows_of(points: Points, numbers: range, jobs: int) -> Iterator[Row]:
    """Yield the rows of some points in order, computed by so many processes.

    :raises CliError: a process was killed from outside.
    """
    alone, most, ahead = (4 * _MANY, _MANY, 2) if _grouped(points, numbers) else (_ALONE, _MOST_IN_CHUNK, _AHEAD)
    jobs = max(1, min(jobs, -(-len(numbers) // alone)))
    size = max(1, min(most, -(-len(numbers) // (jobs * ahead))))
    chunks = (numbers[start : start + size] for start in range(0, len(numbers), size))
    if jobs == 1:
        for chunk in chunks:
            yield from _computed(points, chunk)
        return
    # Fresh processes: a fork would copy whatever threads the caller has in whatever state.
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start, initargs=(points,))
    pending: deque[Future[list[Row]]] = deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(_chunk, chunk))
            if len(pending) >= jobs * ahead:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool:
        raise CliError("a process of the sweep was killed; give --jobs a smaller number if memory ran out") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_points: list[Points] = []


def _start(points: Points) -> None:
    """Keep the points in a new process; an interrupt is for its parent, which then ends it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _points[:] = [points]


def _chunk(numbers: Sequence[int]) -> list[Row]:
    return _computed(_points[0], numbers)


def _grouped(points: Points, numbers: range) -> bool:
    """Whether most points are in groups that are evaluated at once, as some of the first ones show."""
    some = numbers[:_MANY]
    if len(some) < _ALONE:
        return False
    groups = group_points(points, some)
    if len(groups) * _IN_GROUP > len(some):
        return False
    largest = max(groups, key=lambda group: len(group.points))
    return _at_once(points, largest.first(FEWEST)) is not None


def _at_once(points: Points, group: Group) -> list[Row] | None:
    try:
        return group_rows(points, group)
    except Exception:
        # A defect of many points at once is found, and told, at the point that has it.
        return None


def _computed(points: Points, numbers: Sequence[int]) -> list[Row]:
    """Return the rows of some points in order, those that differ in numbers only evaluated at once."""
    rows: dict[int, Row] = {}
    for group in group_points(points, numbers):
        results = _at_once(points, group)
        if results is None:
            rows |= {number: row_of(points, number) for number in group.points}
            continue
        for number, result in zip(group.points, results, strict=True):
            row = rows[number] = _empty(points, number) | result
            for key in _NOT_EVERYWHERE:
                row[key] = row[key] or None
    return [rows[number] for number in numbers]
