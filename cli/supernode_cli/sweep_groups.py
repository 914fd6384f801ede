"""Points of a sweep that differ in numbers only, as rows: found once, evaluated together as arrays.

Such numbers (lengths, load, prompts, reuse, memory, accepted drafts, imbalance) decide neither layout nor placement, so
the points of a group share everything else. What cannot be such a number at a point, because it is missing, out of
range or of another type, tells groups apart like any other field, so that its error is found as that of a scenario is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from typing import Any, Final

from supernode_cli.sweep_points import Points, leaves, put

__all__ = ["NUMBERS", "Group", "group_points", "group_rows"]

Row = dict[str, Any]
_SMALLEST: Final = 1e-12
_COLUMNS: Final[Mapping[str, tuple[str, float]]] = {
    "tokensPerSecond": ("tokens_per_second", 1.0),
    "tokensPerSecondPerCard": ("tokens_per_second_per_card", 1.0),
    "promptTokensPerSecond": ("prompt_tokens_per_second", 1.0),
    "ttftSeconds": ("ttft_seconds", 1.0),
    "tpotSeconds": ("tpot_seconds", 1.0),
    "stepTimeSeconds": ("step_time_seconds", 1.0),
    "mfu": ("mfu", 1.0),
    "powerKilowatts": ("power_watts", 1e-3),
    "hbmGibibytesPerDie": ("hbm_bytes_per_die", 2.0**-30),
    "linkUtilisationPercent": ("link_utilisation", 100.0),
    "expectedErrorPercent": ("expected_error_percent", 1.0),
}
"""Figures of a row, and what they are in the data plane."""
_FEWEST: Final = 4
"""Points of a group from which arrays are faster than one point after the other."""


@dataclass(frozen=True, slots=True)
class _Number:
    """A number of a scenario: its name in the data plane, its bounds in the API, and what it is divided by there."""

    name: str
    least: int
    most: int
    divisor: float = 1.0
    smallest: Callable[[Iterable[Any]], Any] = min
    """Of several, the one that needs least memory."""


NUMBERS: Final[Mapping[str, _Number]] = {
    "inference.inputTokens": _Number("input_tokens", 1, 1 << 24),
    "inference.outputTokens": _Number("output_tokens", 1, 1 << 24),
    "inference.batch.sequencesPerCard": _Number("sequences_per_card", 1, 1 << 16),
    "inference.load.concurrency": _Number("concurrency", 1, 1 << 24),
    "inference.promptsPerBatch": _Number("prompts", 1, 4096),
    "inference.cache.reusePercent": _Number("cached_share", 1, 99, 100.0, max),
    "inference.cache.memoryFractionPercent": _Number("memory_fraction", 1, 95, 100.0, max),
    "inference.decode.experts.imbalancePercent": _Number("decode_imbalance", 100, 10_000, 100.0),
    "inference.prefill.experts.imbalancePercent": _Number("prefill_imbalance", 100, 10_000, 100.0),
}
"""Fields of a scenario that are numbers of a group, with their bounds. Reuse of 0 is like none: some modes take that
alone. Beside them ``inference.speculation.acceptancePercent``, lists of one length."""
_ACCEPTANCE: Final = "inference.speculation.acceptancePercent"


@dataclass(slots=True)
class Group:
    """Points that differ in numbers only."""

    points: list[int] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)
    """By dotted path, what each point has there."""


def group_points(points: Points, numbers: Iterable[int]) -> list[Group]:
    """Return some points in groups, in the order in which their first ones come."""
    groups: dict[tuple[Any, ...], Group] = {}
    columns = points.columns
    for number in numbers:
        key: list[Any] = []
        varying: list[tuple[str, Any]] = []
        for path, value in zip(columns, points.values(number), strict=True):
            for leaf, each in leaves(value, path) if isinstance(value, dict) else ((path, value),):
                shared = _key_of(leaf, each)
                key.append(shared)
                if shared[1] is _VARIES:
                    varying.append((leaf, each))
        group = groups.get(tuple(key))
        if group is None:
            group = groups[tuple(key)] = Group(values={path: [] for path, _ in varying})
        group.points.append(number)
        for path, value in varying:
            group.values[path].append(value)
    return list(groups.values())


_VARIES: Final = object()


def _key_of(path: str, value: Any) -> tuple[Any, ...]:
    """Return what points of one group have in common of a field: not its value, where that is a number of the group."""
    known = NUMBERS.get(path)
    if known is not None and type(value) is int and known.least <= value <= known.most:
        return path, _VARIES
    if path == _ACCEPTANCE and isinstance(value, list) and all(type(v) is int and 0 <= v <= 100 for v in value):
        return path, _VARIES, len(value)
    return path, repr(value)


def group_rows(points: Points, group: Group) -> list[Row] | None:
    """Return what the machine makes of each point of a group: its figures, or its ``error``.

    None where points have to be looked at one by one: too few, or illegal for a reason that is no number's.
    """
    if len(group.points) < _FEWEST or not group.values:
        return None
    import numpy as np  # late: a sweep of layouts needs none of this

    from supernode_cli.evaluation import ScenarioError, evaluate
    from supernode_dataplane.sweeping import sweep_deployment

    document = points.document(group.points[0])
    for path, values in group.values.items():
        put(document, path, values[0] if path == _ACCEPTANCE else NUMBERS[path].smallest(values))
    try:
        inputs = evaluate(document).inputs
    except ScenarioError:
        return None
    arrays = {_name(path): np.array([_plain(path, value) for value in values]) for path, values in group.values.items()}
    swept = sweep_deployment(inputs.profile, inputs.compute_nodes, inputs.workloads[0], arrays)
    if swept is None or not (swept.tokens_per_second > 0)[swept.fits].all():
        return None
    return _figures(swept)


def _name(path: str) -> str:
    return "accepted" if path == _ACCEPTANCE else NUMBERS[path].name


def _plain(path: str, value: Any) -> float:
    """Return a value as the data plane has it."""
    if path == _ACCEPTANCE:
        return float(sum(accumulate((chance / 100 for chance in value), mul)))
    return float(value / NUMBERS[path].divisor)


def _figures(swept: Any) -> list[Row]:
    """Return the figures or the error of each point, as a scenario has them.

    As :func:`supernode_dataplane.figures.workload_performance`, but column by column, without a value for each point.
    """
    from supernode_cli.evaluation import ScenarioError

    columns = {name: _rounded(getattr(swept, field) * scale) for name, (field, scale) in _COLUMNS.items()}
    columns["powerKilowatts"] = [watts or None for watts in columns["powerKilowatts"]]
    columns["bound"] = swept.bound.tolist()
    rows: list[Row] = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for point, problem in swept.problems.items():
        error = ScenarioError(problem.field.removeprefix("spec."), problem.message.removeprefix("spec."))
        rows[point] = {"error": str(error)}
    return rows


def _rounded(values: Any) -> list[Any]:
    """Return numbers with four significant digits, as every surface has them."""
    return [float(f"{value:.3e}") if abs(value) >= _SMALLEST else 0.0 for value in values.tolist()]
