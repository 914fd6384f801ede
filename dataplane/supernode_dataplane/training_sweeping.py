"""Many operating points of one training run at once: what :func:`supernode_dataplane.solve` says of each.

Lengths, batches and the imbalance of experts decide neither layout nor placement, so the dies and links of a run are
found once, and the formulas, which take arrays, are evaluated once for all points, and once more for each uncertain
constant of the error bars. What no point may be (a batch that does not divide, too much for HBM) is said of each as
it is of a single one.

    traffic of all ports = sum over patterns and stages of bytes sent x what one byte of each puts on the stage's ports

The workload is alone on its machine. All results have shape (points,); they equal those of one point at a time to
rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.expected_error import plan_error_percent
from supernode_dataplane.fabric import build_fabric, cpu_share
from supernode_dataplane.layout import check_layout, divides_evenly
from supernode_dataplane.machine import ServerInput, TrainingSpec, WorkloadInput
from supernode_dataplane.memory import does_not_fit, fitted_memory
from supernode_dataplane.numeric import Number, at_least, at_most
from supernode_dataplane.placing import describe_dies, place
from supernode_dataplane.power import package_power
from supernode_dataplane.profile import Profile
from supernode_dataplane.running import PlacedTraining, placed_training, sent_by_stage, sent_in_step, shown_costs
from supernode_dataplane.shares import shares_of
from supernode_dataplane.state import Problem
from supernode_dataplane.training import Plan, Step, model_flops_share, step_of
from supernode_dataplane.training_plan import plan_in_memory

__all__ = ["TRAINING_NUMBERS", "SweptTraining", "sweep_training"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
_WHOLE: Final = ("sequence_length", "global_batch_size", "micro_batch_size")
TRAINING_NUMBERS: Final = (*_WHOLE, "expert_imbalance")
"""What may differ between points: fields of a TrainingSpec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptTraining:
    """Fields of :class:`~supernode_dataplane.state.WorkloadResult` as arrays, (points,); zero where it cannot run."""

    runs: BoolArray
    problems: Mapping[int, Problem]
    """By number of the point, why it cannot run."""
    cards: int
    tokens_per_second: FloatArray
    tokens_per_second_per_card: FloatArray
    step_time_seconds: FloatArray
    mfu: FloatArray
    bound: NDArray[np.str_]
    """Empty where it cannot run."""
    power_watts: FloatArray
    hbm_bytes_per_die: FloatArray
    link_utilisation: FloatArray
    recompute_fraction: FloatArray
    expected_error_percent: FloatArray


def sweep_training(
    profile: Profile,
    compute_nodes: Sequence[ServerInput],
    workload: WorkloadInput,
    numbers: Mapping[str, FloatArray],
    points: int,
) -> SweptTraining | None:
    """Return the figures of a training run with each element of ``numbers`` in turn; names in TRAINING_NUMBERS.

    The arrays have shape (points,); there may be none. None when nothing runs for a reason that is no problem of the
    spec and that :func:`supernode_dataplane.solve` gives: pods are missing, or what is broken stops all. Nothing is
    raised. Figures are tokens a second, seconds and percent; sources as of ``solve``.
    """
    spec = workload.training
    if spec is None:
        return None
    job = place(profile, workload, np.zeros(profile.dies, dtype=np.bool_)).dies
    dies, cards = int(job.size), len(set((job // profile.dies_per_package).tolist()))
    legal = _legal(profile, spec, numbers, points, dies)
    runs, problems = legal.copy(), _illegal(profile, spec, numbers, legal, dies)
    spread: dict[str, Any] = {
        name: np.full(points, "", dtype="U8") if name == "bound" else np.zeros(points)
        for name in SweptTraining.__slots__[3:]
    }
    if legal.any():
        at = np.flatnonzero(legal)
        # What was wrong with one point's numbers is no matter here: any that is legal is placed alike.
        one = replace(workload, training=_point(spec, numbers, int(at[0])), problem=None)
        found = _placed(profile, compute_nodes, one)
        if found is None:
            return None
        many = _with_numbers(spec, {name: values[at] for name, values in numbers.items()})
        shares = shares_of(many)
        fitted = fitted_memory(many, dies, profile.hbm_bytes_per_die, shares)
        fits = np.broadcast_to(fitted.fits, at.shape)
        figures = _figures(profile, found, plan_in_memory(profile, many, dies, fitted.memory, shares), cards)
        if figures is None:
            return None
        for name, values in figures.items():
            spread[name][at[fits]] = np.broadcast_to(values, at.shape)[fits]
        runs[at] = fits
        for number in np.flatnonzero(~fits).tolist():
            point, held = int(at[number]), fitted.held_at(number)
            problems[point] = does_not_fit(_point(spec, numbers, point), dies, profile.hbm_bytes_per_die, held)
    return SweptTraining(runs=runs, problems=problems, cards=cards, **spread)


def _legal(profile: Profile, spec: TrainingSpec, numbers: Mapping[str, Number], points: int, dies: int) -> BoolArray:
    """Return where a layout is legal, whether it fits or not."""
    legal = np.array(np.broadcast_to(divides_evenly(_with_numbers(spec, numbers), dies), points))
    if legal.any():
        # What else may be wrong depends on no number.
        first = _point(spec, numbers, int(np.argmax(legal)))
        legal &= check_layout(first, dies, describe_dies(profile, dies)) is None
    return legal


def _illegal(
    profile: Profile, spec: TrainingSpec, numbers: Mapping[str, FloatArray], legal: BoolArray, dies: int
) -> dict[int, Problem]:
    """Return what is wrong with each layout that is not legal."""
    text = describe_dies(profile, dies)
    found = {point: _point(spec, numbers, point) for point in np.flatnonzero(~legal).tolist()}
    return {point: problem for point, one in found.items() if (problem := check_layout(one, dies, text)) is not None}


def _point(spec: TrainingSpec, numbers: Mapping[str, FloatArray], point: int) -> TrainingSpec:
    """Return the spec of one point."""
    values = {name: float(array[point]) for name, array in numbers.items()}
    return _with_numbers(spec, {name: int(value) if name in _WHOLE else value for name, value in values.items()})


def _with_numbers(spec: TrainingSpec, numbers: Mapping[str, Number]) -> TrainingSpec:
    return replace(spec, **numbers)


def _placed(profile: Profile, compute_nodes: Sequence[ServerInput], workload: WorkloadInput) -> PlacedTraining | None:
    """Return the run on its dies; None while it waits, or where no replica is whole."""
    placed = place(profile, workload, np.zeros(profile.dies, dtype=np.bool_))
    if placed.grid is None or workload.training is None:
        return None
    fabric = build_fabric(profile, compute_nodes)
    found = placed_training(fabric, placed, workload.training, cpu_share(fabric))
    return found if found.alive else None


def _figures(profile: Profile, found: PlacedTraining, plan: Plan, cards: int) -> dict[str, Any] | None:
    """Return the figures of all points of a plan; None where dies that must talk cannot."""
    spec, dies = plan.spec, found.working.size
    step = step_of(profile, plan, found.costs)
    if not np.isfinite(step.seconds).all():
        return None
    seconds = found.seconds(step.seconds, plan.data)
    tokens_per_second = spec.global_batch_size * spec.sequence_length / seconds
    on_all, on_each = _on_ports(profile, found, plan)
    used = reduce(at_least, plan.memory.used_bytes)
    return {
        "tokens_per_second": tokens_per_second,
        "tokens_per_second_per_card": tokens_per_second / cards,
        "step_time_seconds": seconds,
        "mfu": model_flops_share(profile, spec, tokens_per_second, dies),
        "bound": step.bound,
        "power_watts": _watts(profile, found, step, on_all / step.seconds),
        "hbm_bytes_per_die": used if found.working.all() else at_least(used, profile.hbm_idle_bytes),
        "link_utilisation": on_each / step.seconds / profile.port_bytes_per_second,
        "recompute_fraction": plan.memory.recompute,
        "expected_error_percent": plan_error_percent(profile, plan, dies),
    }


def _watts(profile: Profile, found: PlacedTraining, step: Step, sent: Number) -> Number:
    """Return the power of all dies, of which all ports together send so many bytes per second, and receive as many."""
    nothing = np.zeros(1)
    idle = package_power(profile, nothing, nothing, nothing, nothing)
    watts: Number = idle * found.working.size
    working = found.working.reshape(len(step.loads), -1).sum(axis=1).tolist()
    for count, load in zip(working, step.loads, strict=True):
        watts = watts + count * (package_power(profile, load.cube, load.hbm, load.vector, nothing) - idle)
    bus = sent / profile.die_bus_bytes_per_second
    return (watts + package_power(profile, nothing, nothing, nothing, bus) - idle) / profile.dies_per_package


def _on_ports(profile: Profile, found: PlacedTraining, plan: Plan) -> tuple[Number, Number]:
    """Return the bytes of a step that all ports send, and that a port which is up and held sends in the mean."""
    costs, spec = found.costs, plan.spec
    most = float(costs.incast.size) if costs.incast is not None and spec.hot_rank else 1.0
    above = at_most(spec.expert_imbalance, most) - 1.0
    even, hottest = shown_costs(costs, 1.0), shown_costs(costs, most)
    in_use = int(np.count_nonzero(found.up))
    sums: list[Number] = [0.0, 0.0]
    for name, sent in sent_in_step(plan).items():
        carried, carried_at_most = (_by_stage(profile, found, plan, shown[name].ports) for shown in (even, hottest))
        for stage, each in enumerate(sent_by_stage(plan, sent)):
            for number, (one, other) in enumerate(zip(carried[:, stage], carried_at_most[:, stage], strict=True)):
                # Linear in the imbalance, as shown_costs says.
                more = (other - one) / (most - 1.0) * above if other != one else 0.0
                sums[number] = sums[number] + each * (one + more)
    return sums[0], sums[1] / in_use if in_use else 0.0


def _by_stage(profile: Profile, found: PlacedTraining, plan: Plan, ports: FloatArray | float) -> FloatArray:
    """Return what ``ports`` put on all ports of dies that work, and on those that are up and held: (2, stages)."""
    stages = len(plan.counts)
    if not isinstance(ports, np.ndarray):
        return np.zeros((2, stages))
    carried = np.where(found.working[:, None], ports, 0.0)
    both = (np.broadcast_to(carried, found.up.shape), carried * found.up)
    return np.array([each.reshape(stages, -1).sum(axis=1) for each in both])
