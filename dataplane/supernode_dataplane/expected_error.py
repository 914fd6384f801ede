"""How far an answer may be off: the uncertainty of the constants, and what the form of the model misses.

    half width^2 = 1.645^2 sum over constants (d log value / d log constant x relative error)^2 + (t x leave-one-out)^2

The first part is propagated with each constant's standard error (or half of its thinkable range where it is assumed),
of those in ``data/stacks.yaml`` and of those that :func:`~supernode_dataplane.constants.training_constants` gives.
The second is the root mean square error on calibration rows of a class when each is left out of its own fit, in
``data/leave_one_out.yaml``; t is Student's, for the few rows that a class has. So it is half of a 90 % interval.
Errors of rates are in percent, one number, or an array where the point has arrays; nothing is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.constants import training_constants
from supernode_dataplane.deployment_plan import Deployment, RolePool, inference_spec
from supernode_dataplane.inference import inference_point
from supernode_dataplane.machine import TrainingSpec
from supernode_dataplane.numeric import Number, any_true, choose, hypot, is_finite, log, square_root
from supernode_dataplane.packaged import read_data
from supernode_dataplane.planning import healthy_costs
from supernode_dataplane.profile import Profile
from supernode_dataplane.stacks import Stack, load_stack, stack_figures, training_figures
from supernode_dataplane.state import Problem
from supernode_dataplane.training import Plan, plan_training, step_seconds
from supernode_dataplane.training_plan import with_stack

__all__ = [
    "constants_of",
    "deployment_error_percent",
    "half_width",
    "leave_one_out",
    "plan_error_percent",
    "training_error_percent",
]

F = TypeVar("F", float, NDArray[np.float64])
NORMAL_90: Final = 1.645
_STUDENT: Final = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83, 1.81, 1.80, 1.78, 1.77, 1.76, 1.75)
"""Two-sided 90 % quantiles for 1, 2, ... degrees of freedom."""
_TRAINING: Final = frozenset(
    {
        "training_gemm_efficiency",
        "training_vector_seconds",
        "layer_seconds",
        "dispatch_scan_seconds",
        "combine_scan_seconds",
        "overlap_slowdown",
        *training_constants("vendor-tuned"),
    }
)
"""What :mod:`supernode_dataplane.training` takes from a stack."""
_TRAINING_ONLY: Final = frozenset(
    {"training_gemm_efficiency", "training_vector_seconds", "vector_core_bytes_per_second"}
)
_EXPERTS_ONLY: Final = frozenset(
    {
        "dispatch_launch_seconds",
        "combine_launch_seconds",
        "launch_hidden",
        "dispatch_scan_seconds",
        "combine_scan_seconds",
        "dispatch_passes",
        "combine_passes",
        "straggler_share",
        "expert_imbalance",
    }
)
ROW_CLASSES: Final = {"Prefill": "P", "Decode": "D", "Colocated": "S", "Disaggregated": "S"}


@cache
def leave_one_out() -> dict[str, tuple[int, float]]:
    """Return how many components a class has, and their root mean square leave-one-out error, as a share."""
    classes = read_data("leave_one_out.yaml")["classes"]
    return {name: (entry["components"], entry["error"]) for name, entry in classes.items()}


def half_width(value_of: Callable[[Stack], F], stack: Stack, letter: str, only: frozenset[str] | None = None) -> F:
    """Return the half width of the interval around ``value_of(stack)``, as a share; of arrays for each element.

    ``letter``: the class of rows that it is like; ``only``: the constants that it can depend on, None: all. 0 where
    there is no value.
    """
    centre = value_of(stack)
    usable: Any = is_finite(centre) & (centre != 0)
    if not any_true(usable):
        nothing: F = choose(usable, centre, 0.0)
        return nothing
    centre = choose(usable, centre, 1.0)
    count, error = leave_one_out().get(letter) or max(leave_one_out().values(), key=lambda entry: entry[1])
    variance: Number = 0.0
    for figure in (*stack_figures(stack.name), *training_figures(stack.name)):
        before = getattr(stack, figure.name)
        if not figure.error or not before or (only is not None and figure.name not in only):
            continue
        moved = value_of(replace(stack, **{figure.name: before + figure.error}))
        counts = usable & is_finite(moved) & (moved > 0)
        variance = variance + log(choose(counts, moved, centre) / centre) ** 2
    student = _STUDENT[min(max(count - 1, 1), len(_STUDENT)) - 1]
    width: F = choose(usable, hypot(NORMAL_90 * square_root(variance), student * error), 0.0)
    return width


def constants_of(stack: Stack, *, training: bool, experts: bool = True) -> frozenset[str]:
    """Return the constants on which training, or inference of a model with or without experts, can depend."""
    if training:
        return _TRAINING
    names = frozenset(figure.name for figure in stack_figures(stack.name)) - _TRAINING_ONLY
    return names if experts else names - _EXPERTS_ONLY


@lru_cache(maxsize=512)
def training_error_percent(profile: Profile, spec: TrainingSpec, dies: int) -> float:
    """Return the expected error of a training rate, percent; as on whole, healthy servers."""
    plan = plan_training(profile, spec, dies)
    return 0.0 if isinstance(plan, Problem) else float(plan_error_percent(profile, plan, dies))


def plan_error_percent(profile: Profile, plan: Plan, dies: int) -> Number:
    """Return the same for a plan whose numbers may be arrays."""
    costs = healthy_costs(profile, plan.spec, dies)

    def rate(stack: Stack) -> Number:
        return 1.0 / step_seconds(with_stack(profile, plan, stack), costs)

    only = _TRAINING if plan.spec.model.is_moe else _TRAINING - _EXPERTS_ONLY
    return 100.0 * half_width(rate, plan.stack, "T", only)


@lru_cache(maxsize=512)
def deployment_error_percent(deployment: Deployment) -> float:
    """Return the expected error of an inference deployment's rate, percent."""

    def with_stack(pool: RolePool | None, stack: Stack) -> RolePool | None:
        return None if pool is None else replace(pool, pool=replace(pool.pool, stack=stack))

    def rate(stack: Stack) -> float:
        changed = replace(
            deployment,
            prefill=with_stack(deployment.prefill, stack),
            decode=with_stack(deployment.decode, stack),
        )
        return float(inference_point(inference_spec(changed)).tokens_per_second)

    stack = load_stack(deployment.plan.stack)
    names = constants_of(stack, training=False, experts=deployment.plan.model.is_moe)
    return 100.0 * half_width(rate, stack, ROW_CLASSES[deployment.plan.mode], names)
