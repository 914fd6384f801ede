"""Points of a sweep that differ in numbers only, as rows: found once, evaluated together as arrays.

Such numbers (of inference lengths, load, prompts, reuse, memory, accepted drafts, imbalance; of training lengths,
batches, imbalance, how long it runs, and what interrupts it) decide neither layout nor placement, so the points of a
group share everything else. What cannot be such a number at a point, because it is missing, out of range or of another
type, tells groups apart like any other field, so that its error is found as that of a scenario is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from typing import Any, Final

from supernode_cli.sweep_points import Points, leaves, put

__all__ = ["FEWEST", "NUMBERS", "Group", "group_points", "group_rows"]

Row = dict[str, Any]
_SMALLEST: Final = 1e-12
_OF_BOTH: Final[Mapping[str, tuple[str, float]]] = {
    "tokensPerSecond": ("tokens_per_second", 1.0),
    "tokensPerSecondPerCard": ("tokens_per_second_per_card", 1.0),
    "stepTimeSeconds": ("step_time_seconds", 1.0),
    "mfu": ("mfu", 1.0),
    "powerKilowatts": ("power_watts", 1e-3),
    "hbmGibibytesPerDie": ("hbm_bytes_per_die", 2.0**-30),
    "linkUtilisationPercent": ("link_utilisation", 100.0),
    "expectedErrorPercent": ("expected_error_percent", 1.0),
}
"""Figures of a row, and what they are in the data plane."""
_OF_INFERENCE: Final = {
    **_OF_BOTH,
    "promptTokensPerSecond": ("prompt_tokens_per_second", 1.0),
    "ttftSeconds": ("ttft_seconds", 1.0),
    "tpotSeconds": ("tpot_seconds", 1.0),
}
_OF_TRAINING: Final = {**_OF_BOTH, "recomputePercent": ("recompute_fraction", 100.0)}
FEWEST: Final = 4
"""Points of a group from which arrays are faster than one point after the other."""


@dataclass(frozen=True, slots=True)
class _Number:
    """A number of a scenario: its name where it is used, its bounds, and what it is divided by there."""

    name: str
    least: float
    most: float
    divisor: float = 1.0
    chosen: Callable[[Iterable[Any]], Any] = min
    """Of several, the one that stands for all where they are checked: what needs least memory, or has most effect."""
    types: tuple[type, ...] = (int,)


_REAL: Final = (int, float)
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
    "training.sequenceLength": _Number("sequence_length", 1, 1 << 24),
    "training.globalBatchSize": _Number("global_batch_size", 1, 1 << 20),
    "training.microBatchSize": _Number("micro_batch_size", 1, 4096),
    "training.expertImbalance": _Number("expert_imbalance", 1, 1000, chosen=max, types=_REAL),
    "training.tokens": _Number("", 1, (1 << 53) - 1),
    "training.steps": _Number("", 1, (1 << 53) - 1),
    "reliability.mtbfHours": _Number("mtbf_hours", 1e-3, 1e7, types=_REAL),
    "reliability.mttrMinutes": _Number("mttr_minutes", 1e-3, 1e6, types=_REAL),
    "reliability.checkpointSeconds": _Number("checkpoint_seconds", 1e-3, 1e6, types=_REAL),
    "reliability.restartSeconds": _Number("restart_seconds", 0, 1e6, types=_REAL),
}
"""Fields of a scenario that are numbers of a group, with their bounds. Reuse of 0 is like none: some modes take that
alone. Times of failures may be shorter: such points are looked at one by one. How long a run is (no name) is in no row.
Beside them ``inference.speculation.acceptancePercent``, lists of one length."""
_ACCEPTANCE: Final = "inference.speculation.acceptancePercent"


@dataclass(slots=True)
class Group:
    """Points that differ in numbers only."""

    points: list[int] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)
    """By dotted path, what each point has there."""

    def first(self, count: int) -> Group:
        """Return the first so many of them."""
        return Group(self.points[:count], {path: values[:count] for path, values in self.values.items()})


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
    if known is not None and type(value) in known.types and known.least <= value <= known.most:
        return path, _VARIES
    if path == _ACCEPTANCE and isinstance(value, list) and all(type(v) is int and 0 <= v <= 100 for v in value):
        return path, _VARIES, len(value)
    return path, repr(value)


def group_rows(points: Points, group: Group) -> list[Row] | None:
    """Return what the machine makes of each point of a group: its figures, or its ``error``.

    None where points have to be looked at one by one: too few, or illegal for a reason that is no number's.
    """
    if len(group.points) < FEWEST or not group.values:
        return None
    from supernode_cli.errors import ScenarioError

    document = points.document(group.points[0])
    for path, values in group.values.items():
        put(document, path, values[0] if path == _ACCEPTANCE else NUMBERS[path].chosen(values))
    try:
        return (_inference_rows if document.get("training") is None else _training_rows)(document, group)
    except ScenarioError:
        return None


def _inference_rows(document: Any, group: Group) -> list[Row] | None:
    from supernode_cli.evaluation import evaluate
    from supernode_dataplane.sweeping import sweep_deployment

    inputs = evaluate(document).inputs
    swept = sweep_deployment(inputs.profile, inputs.compute_nodes, inputs.workloads[0], _arrays(group, "inference."))
    if swept is None or not (swept.tokens_per_second > 0)[swept.fits].all():
        return None
    return _rows(_columns(swept, _OF_INFERENCE), swept.problems)


def _training_rows(document: Any, group: Group) -> list[Row] | None:
    import numpy as np  # late: a sweep of layouts needs none of this

    from supernode_cli.effects import effects
    from supernode_cli.evaluation import prepare
    from supernode_cli.goodput import goodput_figures
    from supernode_dataplane.training_sweeping import sweep_training

    ready = prepare(document)
    inputs, reliability = ready.inputs, ready.scenario.reliability
    (workload,) = inputs.workloads
    if workload.training is None or ready.scenario.machine.supernodes > 1:
        return None
    effects(ready.given, workload.training, ready.profile)  # a field that can have none is an error of each point
    numbers = _arrays(group, "training.")
    swept = sweep_training(inputs.profile, inputs.compute_nodes, workload, numbers, len(group.points))
    if swept is None:
        return None
    if reliability is not None:
        reliability = reliability.model_copy(update=_arrays(group, "reliability."))
    columns = _columns(swept, _OF_TRAINING)
    for name, values in goodput_figures(swept.tokens_per_second, swept.cards, reliability).items():
        columns[name] = _rounded(np.broadcast_to(values, swept.runs.shape))
    return _rows(columns, swept.problems)


def _arrays(group: Group, prefix: str) -> dict[str, Any]:
    """Return the numbers of one part of a scenario by their names there, as arrays of all points."""
    import numpy as np

    return {
        name: np.array([_plain(path, value) for value in values])
        for path, values in group.values.items()
        if path.startswith(prefix) and (name := _name(path))
    }


def _name(path: str) -> str:
    return "accepted" if path == _ACCEPTANCE else NUMBERS[path].name


def _plain(path: str, value: Any) -> float:
    """Return a value as the data plane has it."""
    if path == _ACCEPTANCE:
        return float(sum(accumulate((chance / 100 for chance in value), mul)))
    return float(value / NUMBERS[path].divisor)


def _columns(swept: Any, known: Mapping[str, tuple[str, float]]) -> dict[str, list[Any]]:
    """Return the figures of all points by column.

    As :func:`supernode_dataplane.figures.workload_performance`, but column by column, without a value for each point.
    """
    columns = {name: _rounded(getattr(swept, field) * scale) for name, (field, scale) in known.items()}
    columns["powerKilowatts"] = [watts or None for watts in columns["powerKilowatts"]]
    columns["bound"] = swept.bound.tolist()
    return columns


def _rows(columns: Mapping[str, list[Any]], problems: Mapping[int, Any]) -> list[Row]:
    """Return the figures or the error of each point, as a scenario has them."""
    from supernode_cli.errors import ScenarioError

    rows: list[Row] = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for point, problem in problems.items():
        error = ScenarioError(problem.field.removeprefix("spec."), problem.message.removeprefix("spec."))
        rows[point] = {"error": str(error)}
    return rows


def _rounded(values: Any) -> list[Any]:
    """Return numbers with four significant digits, as every surface has them."""
    return [float(f"{value:.3e}") if abs(value) >= _SMALLEST else 0.0 for value in values.tolist()]
