"""Least squares over the calibration rows: values and standard errors of the fitted constants.

Levenberg-Marquardt on log(computed / published) (differences for gains), in the logarithm of each constant, so that
none changes its sign. A mean TTFT under load weighs 0.3 of another component; what is left out of a fit is compared
without weights. The covariance is that of the residuals, (J'J)^-1 s^2; a constant that its rows do not identify
has a large standard error, which is printed and enters the error bar of every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.stacks import Stack
from supernode_dataplane.suite.evaluate import evaluate_row
from supernode_dataplane.suite.rows import Row, load_rows

__all__ = ["GROUPS", "Fit", "FitGroup", "fit_group", "leave_one_out_errors", "residuals", "weights", "with_constants"]

FloatArray = NDArray[np.float64]
_ROUNDS: Final = 40
_SLOPE_STEP: Final = 1e-2
_LEAST_STEP: Final = 1e-4
"""In the logarithm of a constant: finer than any standard error, and than the steps of rows that are served."""
_QUEUED: Final = 0.3
"""Weight of a mean TTFT under load in a fit: a queue multiplies a small error of the rates by several times."""


@dataclass(frozen=True, slots=True)
class FitGroup:
    """Constants that are fitted together, and the rows that say what they are."""

    constants: tuple[tuple[str, str], ...]
    """(stack, constant)."""
    rows: tuple[str, ...]
    starts: tuple[tuple[float, ...], ...] = ()
    """Where to begin beside the present values; rows that are served have steps in them, and local minima."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The outcome: values and standard errors in the order of the group's constants."""

    values: FloatArray
    errors: FloatArray
    rank: int
    """Of the Jacobian: constants that the rows identify."""
    residual: float
    """Root mean square."""


_VENDOR, _OPEN, _GPU = "vendor-tuned", "open-source", "gpu-tuned"
GROUPS: Final = (
    FitGroup(((_OPEN, "layer_seconds"), (_VENDOR, "hbm_efficiency")), ("C-D4",)),
    FitGroup(
        (
            (_VENDOR, "dispatch_launch_seconds"),
            (_VENDOR, "combine_launch_seconds"),
            (_VENDOR, "dispatch_scan_seconds"),
        ),
        ("C-K2",),
    ),
    FitGroup(
        (
            (_OPEN, "dispatch_passes"),
            (_OPEN, "combine_passes"),
            (_OPEN, "dispatch_scan_seconds"),
            (_OPEN, "combine_scan_seconds"),
        ),
        ("C-K3",),
    ),
    FitGroup(
        ((_GPU, "dispatch_scan_seconds"), (_GPU, "combine_scan_seconds")),
        ("C-X1",),
    ),
    FitGroup(
        ((_VENDOR, "vector_seconds"), (_VENDOR, "straggler_share"), (_VENDOR, "expert_imbalance")),
        ("C-D1", "C-D2", "C-D3", "C-D5", "C-P1", "C-P2"),
    ),
    FitGroup(
        (
            (_OPEN, "draft_seconds"),
            (_OPEN, "draft_token_seconds"),
            (_OPEN, "vector_seconds"),
            (_OPEN, "expert_imbalance"),
        ),
        ("C-S1", "C-S2", "C-S3"),
        starts=((1e-3, 2e-4, 1e-11, 3.0), (5e-3, 1e-4, 1.5e-11, 4.0)),
    ),
    FitGroup(((_VENDOR, "training_vector_seconds"),), ("C-T1", "C-T2", "C-T4")),
)
"""In the order in which they are fitted; a later group may use an earlier one's values."""


def residuals(row: Row, computed: Mapping[str, float]) -> list[float]:
    """Return log(computed / published) of each component; for gains in points the difference over 100."""
    if row.gate.endswith("pp"):
        return [(computed[name] - value) / 100 for name, value in row.published.items()]
    return [float(np.log(computed[name] / value)) for name, value in row.published.items()]


def weights(row: Row) -> list[float]:
    """Return what each component of a row counts in a fit, and nowhere else; where nobody queues, all alike."""
    queued = row.given.get("inSystem", 1) > 1
    return [_QUEUED if queued and name.startswith("TTFT") else 1.0 for name in row.published]


def with_constants(stacks: Mapping[str, Stack], changes: Mapping[tuple[str, str], float]) -> dict[str, Stack]:
    """Return the stacks with constants changed; what a stack has from its base follows the base."""
    changed = dict(stacks)
    for (name, constant), value in changes.items():
        before = getattr(stacks[name], constant)
        for other, stack in stacks.items():
            if other == name or (name == _VENDOR and getattr(stack, constant) == before):
                changed[other] = replace(changed[other], **{constant: value})  # type: ignore[arg-type]
    return changed


def fit_group(group: FitGroup, stacks: Mapping[str, Stack], without: tuple[str, str] | None = None) -> Fit:
    """Fit a group's constants, the others as they are; ``without`` leaves one component of a row out."""
    rows = [row for row in load_rows() if row.id in group.rows]
    if without is not None:
        rows = [_without(row, without[1]) if row.id == without[0] else row for row in rows]

    def misses(logs: FloatArray) -> FloatArray:
        values = dict(zip(group.constants, np.exp(logs).tolist(), strict=True))
        current = with_constants(stacks, values)
        found: list[float] = []
        for row in rows:
            missed = residuals(row, evaluate_row(row, current))
            found += [miss * weight for miss, weight in zip(missed, weights(row), strict=True)]
        return np.array(found)

    present = tuple(getattr(stacks[stack], name) for stack, name in group.constants)
    starts = (present, *group.starts) if without is None else (present,)
    tried = [_levenberg_marquardt(misses, np.log(start)) for start in starts]
    logs, jacobian, last = min(tried, key=lambda found: float(found[2] @ found[2]))
    freedom = max(1, last.size - logs.size)
    scale = max(float(last @ last) / freedom, 0.02**2)  # published figures are rounded to about two percent
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * scale
    values = np.exp(logs)
    return Fit(
        values=values,
        errors=values * np.sqrt(np.diag(covariance)),
        rank=int(np.linalg.matrix_rank(jacobian, tol=1e-3)),
        residual=float(np.sqrt(np.mean(last**2))),
    )


def leave_one_out_errors(group: FitGroup, stacks: Mapping[str, Stack]) -> dict[tuple[str, str], float]:
    """Return log(computed / published) of every component of a group's rows, each left out of the fit.

    ``stacks`` have the values of the fit on all rows. Components that are as many as the constants cannot be left out,
    nor can one that a constant rests on: without it, the constant's error exceeds its value.
    """
    rows = [row for row in load_rows() if row.id in group.rows]
    components = [(row, name) for row in rows for name in row.published]
    errors: dict[tuple[str, str], float] = {}
    if len(components) <= len(group.constants):
        return errors
    for row, name in components:
        fit = fit_group(group, stacks, without=(row.id, name))
        if fit.rank < len(group.constants) or (fit.errors > fit.values).any():
            continue
        changed = with_constants(stacks, dict(zip(group.constants, fit.values.tolist(), strict=True)))
        computed = evaluate_row(row, changed)
        only = replace(row, published={name: row.published[name]})
        errors[row.id, name] = residuals(only, computed)[0]
    return errors


def _without(row: Row, name: str) -> Row:
    return replace(row, published={key: value for key, value in row.published.items() if key != name})


def _levenberg_marquardt(
    function: Callable[[FloatArray], FloatArray], start: Sequence[float] | FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    at = np.array(start, dtype=np.float64)
    value, damping = function(at), 1e-2
    jacobian = _jacobian(function, at, value)
    for _ in range(_ROUNDS):
        normal = jacobian.T @ jacobian
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), -(jacobian.T @ value))
        if np.abs(step).max() < _LEAST_STEP:
            break
        tried = at + np.clip(step, -1.0, 1.0)
        new = function(tried)
        if new @ new < value @ value:
            done = abs(value @ value - new @ new) < 1e-10
            at, value, damping = tried, new, damping / 3
            jacobian = _jacobian(function, at, value)
            if done:
                break
        else:
            damping *= 4
            if damping > 1e9:
                break
    return at, jacobian, value


def _jacobian(function: Callable[[FloatArray], FloatArray], at: FloatArray, value: FloatArray) -> FloatArray:
    columns = []
    for index in range(at.size):
        moved = at.copy()
        moved[index] += _SLOPE_STEP
        columns.append((function(moved) - value) / _SLOPE_STEP)
    return np.stack(columns, axis=1)
