"""The suite as a whole: every row computed beside what is published, statistics by set and class, fitted constants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from supernode_dataplane.expected_error import constants_of, half_width
from supernode_dataplane.stacks import Figure, Stack, load_stack, stack_figures, stack_names
from supernode_dataplane.suite.evaluate import evaluate_row
from supernode_dataplane.suite.rows import Row, load_rows

__all__ = ["RowReport", "Statistics", "SuiteReport", "fitted_constants", "validate"]


@dataclass(frozen=True, slots=True)
class RowReport:
    """One row: ``error_percent`` is that of its worst component (points for gains, 0 or 100 for signs)."""

    id: str
    set: str
    informative: bool
    letter: str
    text: str
    source: str
    published: Mapping[str, float]
    computed: Mapping[str, float]
    error_percent: float
    worst: str
    gate: str
    passed: bool
    interval_percent: float | None
    """Half width of the 90 % interval around the worst component; None for signs and gains."""
    covered: bool | None
    """Whether the published value of the worst component lies inside."""
    counted: bool = True
    """Whether the row counts in the statistics of its set and class."""

    def to_json(self) -> dict[str, Any]:
        """Return the row as `supernode validate -o json` prints it."""
        names = {"error_percent": "errorPercent", "interval_percent": "intervalPercent", "letter": "class"}
        values = {names.get(key, key): value for key, value in asdict(self).items()}
        limit = self.gate.removesuffix("pp").strip()
        values["gatePercent"] = None if self.gate == "sign" else float(limit)
        values["interval"] = None
        if self.interval_percent is not None:
            factor, centre = math.exp(self.interval_percent / 100), self.computed[self.worst]
            values["interval"] = [centre / factor, centre * factor]
        return values


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the absolute errors of some rows, percent."""

    rows: int
    median: float
    p90: float
    """Nearest rank."""
    coverage: float
    """Percent of rows whose interval holds the published value."""
    median_half_width: float

    def to_json(self) -> dict[str, float | None]:
        """Return the statistics as JSON; null where there is no row."""
        if not self.rows:
            return dict.fromkeys(("rows", "median", "p90", "coverage", "medianHalfWidth"))
        return {
            "rows": self.rows,
            "median": self.median,
            "p90": self.p90,
            "coverage": self.coverage,
            "medianHalfWidth": self.median_half_width,
        }


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """All rows, statistics of the informative test rows, and by set and class."""

    rows: tuple[RowReport, ...]
    informative: Statistics
    groups: Mapping[str, Statistics]
    """``set/class``."""
    fitted: tuple[Figure, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as `supernode validate -o json` prints it."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "informative": self.informative.to_json(),
            "groups": {name: group.to_json() for name, group in self.groups.items()},
            "fittedConstants": {
                "count": len(self.fitted),
                "constants": [
                    {
                        "stack": figure.stack,
                        "name": figure.name,
                        "value": figure.value,
                        "standardError": figure.error,
                        "unit": figure.unit,
                        "rows": list(figure.rows),
                    }
                    for figure in self.fitted
                ],
            },
        }


def validate(only: Iterable[str] | None = None) -> SuiteReport:
    """Evaluate the suite; ``only`` restricts it to rows of these ids."""
    wanted = None if only is None else set(only)
    stacks = {name: load_stack(name) for name in stack_names()}
    rows = tuple(_report(row, stacks) for row in load_rows() if wanted is None or row.id in wanted)
    groups: dict[str, Statistics] = {}
    for name in sorted({f"{row.set}/{row.letter}" for row in rows}):
        members = [row for row in rows if f"{row.set}/{row.letter}" == name and row.interval_percent is not None]
        members = [row for row in members if row.counted]
        if members:
            groups[name] = _statistics(members)
    return SuiteReport(rows, _statistics([row for row in rows if row.informative]), groups, fitted_constants())


def fitted_constants() -> tuple[Figure, ...]:
    """Return the constants that rows of the suite fit, each once."""
    return tuple(
        figure
        for name in stack_names()
        for figure in stack_figures(name)
        if figure.stack == name and figure.source.startswith("fitted")
    )


def _report(row: Row, stacks: Mapping[str, Stack]) -> RowReport:
    computed = {name: float(value) for name, value in evaluate_row(row, stacks).items() if name in row.published}
    if row.gate == "sign":
        passed = _sign(row, computed)
        return _row(row, computed, 0.0 if passed else 100.0, next(iter(row.published)), passed, None)
    if row.gate.endswith("pp"):
        errors = {name: computed[name] - value for name, value in row.published.items()}
        worst = max(errors, key=lambda name: abs(errors[name]))
        limit = float(row.gate.removesuffix("pp"))
        passed = abs(errors[worst]) <= limit and all(computed[name] > 0 for name in row.published)
        return _row(row, computed, errors[worst], worst, passed, None)
    errors = {name: (computed[name] / value - 1.0) * 100 for name, value in row.published.items()}
    worst = max(errors, key=lambda name: abs(errors[name]))
    used = row.given.get("stack")
    width = None
    if used is not None:
        only = constants_of(stacks[used], training=row.letter == "T")
        width = (
            half_width(lambda s: evaluate_row(row, {**stacks, used: s})[worst], stacks[used], row.letter, only) * 100
        )
    return _row(row, computed, errors[worst], worst, abs(errors[worst]) <= float(row.gate), width)


def _sign(row: Row, computed: Mapping[str, float]) -> bool:
    holds = []
    for name, value in row.published.items():
        holds.append(computed[name] <= value if name.endswith("below") else computed[name] >= value)
    return all(holds)


def _row(  # noqa: PLR0917 - what a row is made of
    row: Row, computed: Mapping[str, float], error: float, worst: str, passed: bool, width: float | None
) -> RowReport:
    covered = None
    if width is not None:
        low, high = computed[worst] * math.exp(-width / 100), computed[worst] * math.exp(width / 100)
        covered = low <= row.published[worst] <= high
    return RowReport(
        id=row.id,
        set=row.set,
        informative=row.informative,
        letter=row.letter,
        text=row.text,
        source=row.source,
        published=row.published,
        computed=computed,
        error_percent=error,
        worst=worst,
        gate=row.gate,
        passed=passed,
        interval_percent=width,
        covered=covered,
        counted=row.counted,
    )


def _statistics(rows: list[RowReport]) -> Statistics:
    errors = sorted(abs(row.error_percent) for row in rows)
    widths = sorted(row.interval_percent or 0.0 for row in rows)
    count = len(errors)
    if not count:
        return Statistics(0, 0.0, 0.0, 0.0, 0.0)
    middle = count // 2
    median = errors[middle] if count % 2 else (errors[middle - 1] + errors[middle]) / 2
    width = widths[middle] if count % 2 else (widths[middle - 1] + widths[middle]) / 2
    covered = sum(bool(row.covered) for row in rows)
    return Statistics(count, median, errors[math.ceil(0.9 * count) - 1], 100 * covered / count, width)
