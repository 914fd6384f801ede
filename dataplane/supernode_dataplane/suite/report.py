"""The suite as a whole: every row computed beside what is published, statistics by set and class, fitted constants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from supernode_dataplane.constants import CONSTANTS
from supernode_dataplane.expected_error import constants_of, half_width
from supernode_dataplane.stacks import Figure, Stack, load_stack, stack_figures, stack_names
from supernode_dataplane.suite.evaluate import evaluate_row
from supernode_dataplane.suite.rows import Row, load_rows

__all__ = [
    "RowReport",
    "Statistics",
    "SuiteReport",
    "Variant",
    "component_of",
    "fitted_constants",
    "measured_constants",
    "report_row",
    "validate",
]


@dataclass(frozen=True, slots=True)
class RowReport:
    """One row: ``error_percent`` is that of its worst component (points for gains, 0 or 100 for signs).

    A row whose every component is read back computes nothing: ``computes`` is false and no statistic counts it.
    """

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
    read_back: tuple[str, ...] = ()
    """Components whose published figures the model takes as they are."""

    @property
    def computes(self) -> bool:
        """Whether there is anything in the row that the model computes."""
        return set(self.published) != set(self.read_back)

    def to_json(self) -> dict[str, Any]:
        """Return the row as `supernode validate -o json` prints it; null where there is nothing to say."""
        names = {"error_percent": "errorPercent", "interval_percent": "intervalPercent", "letter": "class"}
        values = {names.get(key, key): value for key, value in asdict(self).items()}
        values["readBack"] = list(values.pop("read_back"))
        if not self.computes:
            values["errorPercent"] = values["passed"] = None
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
class Variant:
    """What a row and the statistics would be with another input that the row's source allows."""

    row: str
    text: str
    committed: bool
    """Whether it is the input that was written down before the first run of the test rows."""
    error_percent: float
    informative: Statistics

    def to_json(self) -> dict[str, Any]:
        """Return the variant as JSON values."""
        return {
            "row": self.row,
            "text": self.text,
            "committed": self.committed,
            "errorPercent": self.error_percent,
            "informative": self.informative.to_json(),
        }


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """All rows, statistics of the informative test rows, and by set and class."""

    rows: tuple[RowReport, ...]
    informative: Statistics
    groups: Mapping[str, Statistics]
    """``set/class``."""
    fitted: tuple[Figure, ...]
    measured: tuple[Figure, ...] = ()
    """Calibrated constants that no fit gives: each is taken from one measurement."""
    variants: tuple[Variant, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as `supernode validate -o json` prints it."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "informative": self.informative.to_json(),
            "groups": {name: group.to_json() for name, group in self.groups.items()},
            "variants": [variant.to_json() for variant in self.variants],
            "fittedConstants": _constants_json(self.fitted),
            "measuredConstants": _constants_json(self.measured),
        }


def _constants_json(figures: tuple[Figure, ...]) -> dict[str, Any]:
    constants = [
        {
            "stack": figure.stack,
            "name": figure.name,
            "value": figure.value,
            "standardError": figure.error or None,
            "unit": figure.unit,
            "rows": list(figure.rows),
            "source": figure.source,
        }
        for figure in figures
    ]
    return {"count": len(constants), "constants": constants}


def validate(only: Iterable[str] | None = None) -> SuiteReport:
    """Evaluate the suite; ``only`` restricts it to rows of these ids.

    The report's tuples have a row each, with computed and published values in the row's own units (tokens, seconds,
    watts) and errors in percent. An id that is no row is left out, which is no error; ValueError for a row of the data
    that cannot be evaluated. Source of each row beside it in data/suite.yaml.
    """
    wanted = None if only is None else set(only)
    stacks = {name: load_stack(name) for name in stack_names()}
    chosen = [row for row in load_rows() if wanted is None or row.id in wanted]
    rows = tuple(_report(row, stacks) for row in chosen)
    groups: dict[str, Statistics] = {}
    for name in sorted({f"{row.set}/{row.letter}" for row in rows}):
        members = [row for row in rows if f"{row.set}/{row.letter}" == name and row.interval_percent is not None]
        members = [row for row in members if row.counted]
        if members:
            groups[name] = _statistics(members)
    informative = _statistics([row for row in rows if row.informative])
    variants = tuple(found for row in chosen for found in _variants(row, rows, stacks))
    return SuiteReport(rows, informative, groups, fitted_constants(), measured_constants(), variants)


def _variants(row: Row, rows: tuple[RowReport, ...], stacks: Mapping[str, Stack]) -> Iterator[Variant]:
    for entry in row.variants:
        other = _report(replace(row, given={**row.given, **entry["given"]}), stacks)
        others = [other if each.id == row.id else each for each in rows if each.informative]
        committed = bool(entry.get("committed"))
        yield Variant(row.id, entry["text"], committed, other.error_percent, _statistics(others))


def fitted_constants() -> tuple[Figure, ...]:
    """Return the constants that rows of the suite fit, each once."""
    return tuple(figure for figure in _own_figures() if figure.source.startswith("fitted"))


def measured_constants() -> tuple[Figure, ...]:
    """Return the calibrated constants that are no outcome of a fit: each is taken from one published measurement.

    Those that every stack shares (:mod:`supernode_dataplane.constants`) are of the stack ``all``.
    """
    stacks = tuple(
        figure for figure in _own_figures() if figure.status == "calibrated" and not figure.source.startswith("fitted")
    )
    others = tuple(
        Figure("all", found.name, found.value, found.unit, found.status, found.source, found.error)
        for found in CONSTANTS
        if found.status == "calibrated"
    )
    return stacks + others


def _own_figures() -> Iterator[Figure]:
    for name in stack_names():
        yield from (figure for figure in stack_figures(name) if figure.stack == name)


def _report(row: Row, stacks: Mapping[str, Stack]) -> RowReport:
    found = report_row(row, evaluate_row(row, stacks))
    used = row.given.get("stack")
    if used is None or not row.published or row.gate == "sign" or row.gate.endswith("pp"):
        return found
    only = constants_of(stacks[used], training=row.letter == "T")
    width = half_width(lambda s: evaluate_row(row, {**stacks, used: s})[found.worst], stacks[used], row.letter, only)
    centre = found.computed[found.worst]
    covered = centre / math.exp(width) <= row.published[found.worst] <= centre * math.exp(width)
    return replace(found, interval_percent=100 * width, covered=covered)


def report_row(row: Row, values: Mapping[str, float]) -> RowReport:
    """Return a row beside its computed values (one for each component), without an interval."""
    shown = {**row.published, **row.read_back}
    computed = {name: float(values[component_of(name)]) for name in shown}
    bounds = {name: _holds(name, computed[name], value) for name, value in shown.items() if component_of(name) != name}
    if row.gate == "sign":
        worst = next((name for name, holds in bounds.items() if not holds), next(iter(shown)))
        return _row(row, computed, 0.0 if all(bounds.values()) else 100.0, worst, all(bounds.values()))
    measured = {name: value for name, value in (row.published or row.read_back).items() if name not in bounds}
    points = row.gate.endswith("pp")
    errors = {
        name: computed[name] - value if points else (computed[name] / value - 1.0) * 100
        for name, value in measured.items()
    }
    worst = max(errors, key=lambda name: abs(errors[name]))
    passed = abs(errors[worst]) <= float(row.gate.removesuffix("pp")) and all(bounds.values())
    if points:  # a gain that is none is no gain, however near
        passed = passed and all(computed[name] > 0 for name in measured)
    return _row(row, computed, errors[worst], worst, passed)


def component_of(name: str) -> str:
    """Return the computed value that a component is about: a bound's name without its direction."""
    return name.removesuffix(" above").removesuffix(" below")


def _holds(name: str, computed: float, bound: float) -> bool:
    return computed <= bound if name.endswith(" below") else computed >= bound


def _row(row: Row, computed: Mapping[str, float], error: float, worst: str, passed: bool) -> RowReport:
    return RowReport(
        id=row.id,
        set=row.set,
        informative=row.informative,
        letter=row.letter,
        text=row.text,
        source=row.source,
        published={**row.published, **row.read_back},
        computed=computed,
        error_percent=error,
        worst=worst,
        gate=row.gate,
        passed=passed,
        interval_percent=None,
        covered=None,
        counted=row.counted,
        read_back=tuple(row.read_back),
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
