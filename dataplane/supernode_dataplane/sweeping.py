"""Many operating points of one inference deployment at once: what :func:`supernode_dataplane.solve` says of each.

Points of a sweep mostly differ in numbers that decide neither layout nor placement: lengths, load, prompts, reuse,
memory, accepted drafts, imbalance. They share pools, dies and links, so those are found once, and the formulas, which
take arrays, are evaluated once for all points, and once more for each uncertain constant of the error bars.

    traffic of a port = sum over pools of (exchanged, reduced, handed bytes) x what one byte of each puts there

So sums over ports are sums over these few numbers. The workload is alone on its machine. All results have shape
(points,); they equal the results of one point at a time to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.deployment_plan import (
    Deployment,
    RolePool,
    deployment_of,
    inference_spec,
    memory_problem,
    pool_capacity,
)
from supernode_dataplane.expected_error import ROW_CLASSES, constants_of, half_width
from supernode_dataplane.fabric import Fabric, build_fabric, cpu_share
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.inference import inference_point
from supernode_dataplane.inference_running import PlacedPools, placed_pools
from supernode_dataplane.machine import ServerInput, WorkloadInput
from supernode_dataplane.numeric import Number, at_least, at_most
from supernode_dataplane.placing import Placed, describe_dies, place
from supernode_dataplane.pool_rates import PoolRates, Rates, deployment_rates
from supernode_dataplane.pool_work import PoolWork
from supernode_dataplane.power import package_power
from supernode_dataplane.profile import Profile
from supernode_dataplane.stacks import Stack, load_stack
from supernode_dataplane.state import Problem

__all__ = ["NUMBERS", "SweptFigures", "deployment_error_percents", "sweep_deployment", "with_numbers"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
_OF_PLAN: Final = (
    "input_tokens",
    "output_tokens",
    "sequences_per_card",
    "concurrency",
    "prompts",
    "cached_share",
    "memory_fraction",
)
NUMBERS: Final = (*_OF_PLAN, "accepted", "decode_imbalance", "prefill_imbalance")
"""What may differ between points: fields of a DeploymentPlan, mean accepted drafts, imbalance of a pool's experts."""

_NO_BYTES: Final = ("seconds", "busy", "cube", "vector", "hbm", "causes")
_OF_WORK: Final = tuple(field.name for field in fields(PoolWork) if field.name not in _NO_BYTES)
_OF_POOL: Final = tuple(field.name for field in fields(PoolRates) if field.name.endswith("_bytes_per_second"))
"""What a die moves, by kind, bytes per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptFigures:
    """Fields of :class:`~supernode_dataplane.state.WorkloadResult` as arrays, (points,); zero where it does not fit."""

    fits: BoolArray
    problems: Mapping[int, Problem]
    """By number of the point, why it does not fit."""
    tokens_per_second: FloatArray
    tokens_per_second_per_card: FloatArray
    prompt_tokens_per_second: FloatArray
    ttft_seconds: FloatArray
    tpot_seconds: FloatArray
    step_time_seconds: FloatArray
    mfu: FloatArray
    bound: NDArray[np.str_]
    """Empty where it does not fit."""
    power_watts: FloatArray
    hbm_bytes_per_die: FloatArray
    link_utilisation: FloatArray
    expected_error_percent: FloatArray


def sweep_deployment(
    profile: Profile,
    compute_nodes: Sequence[ServerInput],
    workload: WorkloadInput,
    numbers: Mapping[str, FloatArray],
) -> SweptFigures | None:
    """Return the figures of an inference workload with each element of ``numbers`` in turn; names in NUMBERS.

    The arrays have one shape, (points,); units are those of the plan's fields (shares from 0 to 1). None when the
    workload runs with none of them, for a reason that :func:`supernode_dataplane.solve` gives, or has attention and
    experts apart: nothing is raised. Figures are tokens a second, seconds and percent; sources as of ``solve``.
    """
    plan = workload.inference
    if plan is None:
        return None
    fabric = build_fabric(profile, compute_nodes)
    # What was wrong with one point's memory is no matter here: it is looked at for each.
    placed = place(profile, replace(workload, problem=None), np.zeros(profile.dies, dtype=np.bool_))
    if placed.grid is None:
        return None
    dies = int(placed.grid.size)
    text = describe_dies(profile, dies)
    deployment = deployment_of(plan, hardware_of(profile), dies, placed.prefill_dies, text)
    if isinstance(deployment, Problem):
        return None
    found = placed_pools(fabric, placed, deployment, cpu_share(fabric))
    if not found.runs or any(pool.pool.split is not None for pool in deployment.pools):
        return None  # dies of a split pool are of two kinds: one point at a time
    points = len(next(iter(numbers.values())))
    fits = _fits(with_numbers(deployment, numbers), points)
    fitting = {name: values[fits] for name, values in numbers.items()}
    figures: dict[str, Any] = {}
    if fits.any():
        instances = found.instances
        rates = deployment_rates(
            with_numbers(found.linked, fitting), instances.get("prefill", 0), instances.get("decode", 0)
        )
        figures = _figures(found, placed, rates) | _readings(fabric, found, placed, rates)
        figures["expected_error_percent"] = deployment_error_percents(with_numbers(deployment, fitting))
    spread: dict[str, Any] = {}
    for name in SweptFigures.__slots__[2:]:
        spread[name] = np.full(points, "", dtype="U8") if name == "bound" else np.zeros(points)
        if name in figures:
            spread[name][fits] = figures[name]
    return SweptFigures(fits=fits, problems=_problems(deployment, numbers, fits), **spread)


def with_numbers(deployment: Deployment, numbers: Mapping[str, Number]) -> Deployment:
    """Return a deployment with other numbers, by their names in NUMBERS: values or arrays of them."""
    plan = replace(deployment.plan, **{name: numbers[name] for name in _OF_PLAN if name in numbers})
    if "accepted" in numbers:
        plan = replace(plan, speculation=replace(plan.speculation, accepted=numbers["accepted"]))

    def changed(found: RolePool | None) -> RolePool | None:
        if found is None:
            return None
        imbalance = numbers.get(f"{found.role}_imbalance", found.pool.experts.imbalance)
        experts = replace(found.pool.experts, imbalance=imbalance)
        return replace(found, pool=replace(found.pool, speculation=plan.speculation, experts=experts))

    return Deployment(plan, changed(deployment.prefill), changed(deployment.decode))


def deployment_error_percents(deployment: Deployment) -> FloatArray:
    """Return the expected error of a deployment's rate at each point, percent, shape (points,).

    The same as :func:`~supernode_dataplane.expected_error.deployment_error_percent` of each; 0 where it does not fit.
    """

    def rate(stack: Stack) -> FloatArray:
        pools = {found.role: replace(found, pool=replace(found.pool, stack=stack)) for found in deployment.pools}
        changed = replace(deployment, prefill=pools.get("prefill"), decode=pools.get("decode"))
        return np.atleast_1d(np.asarray(inference_point(inference_spec(changed)).tokens_per_second, dtype=np.float64))

    stack = load_stack(deployment.plan.stack)
    names = constants_of(stack, training=False, experts=deployment.plan.model.is_moe)
    letter = ROW_CLASSES[deployment.plan.mode]
    return 100.0 * np.asarray(half_width(rate, stack, letter, names), dtype=np.float64)


def _fits(deployment: Deployment, points: int) -> BoolArray:
    """Return where the weights, and what each tensor group has to hold at least, fit into HBM."""
    fits = np.ones(points, dtype=np.bool_)
    for found in deployment.pools:
        capacity, sequences = pool_capacity(deployment, found)
        fits &= capacity.sequences >= at_least(sequences, 1.0)
    return fits


def _problems(deployment: Deployment, numbers: Mapping[str, FloatArray], fits: BoolArray) -> dict[int, Problem]:
    problems = {}
    for point in np.flatnonzero(~fits).tolist():
        one = {name: float(values[point]) for name, values in numbers.items()}
        problem = memory_problem(with_numbers(deployment, one))
        assert problem is not None
        problems[point] = problem
    return problems


def _figures(found: PlacedPools, placed: Placed, rates: Rates) -> dict[str, Any]:
    cards = len(set((placed.dies // found.profile.dies_per_package).tolist()))
    return {
        "tokens_per_second": rates.tokens_per_second,
        "tokens_per_second_per_card": rates.tokens_per_second / cards,
        "prompt_tokens_per_second": rates.prompt_tokens_per_second,
        "ttft_seconds": rates.ttft_seconds,
        "tpot_seconds": rates.tpot_seconds,
        "step_time_seconds": rates.step_seconds,
        "mfu": rates.flops_per_second / (placed.dies.size * rates.peak),
        "bound": rates.bound,
    }


def _readings(fabric: Fabric, found: PlacedPools, placed: Placed, rates: Rates) -> dict[str, Any]:
    """Return what the deployment's dies and ports read, summed up as for its workload."""
    profile = found.profile
    nothing = np.zeros(1)
    idle = package_power(profile, nothing, nothing, nothing, nothing)
    watts: Number = idle * placed.dies.size
    used: Number = profile.hbm_idle_bytes
    for part in found.parts:
        pool = rates.pools[part.found.role]
        cube, hbm, vector = (
            np.atleast_1d(at_most(sum(getattr(work, name) for work in pool.work), 1.0))
            for name in ("cube", "hbm", "vector")
        )
        working = int(np.count_nonzero(part.working))
        watts = watts + working * (package_power(profile, cube, hbm, vector, nothing) - idle)
        used = at_least(used, pool.used_bytes)
    moved, sent = _on_ports(fabric, found, placed, rates)
    bus = np.atleast_1d(moved / (2.0 * profile.die_bus_bytes_per_second))
    watts = watts + package_power(profile, nothing, nothing, nothing, bus) - idle
    return {
        "power_watts": watts / profile.dies_per_package,
        "hbm_bytes_per_die": used,
        "link_utilisation": sent / profile.port_bytes_per_second,
    }


def _on_ports(fabric: Fabric, found: PlacedPools, placed: Placed, rates: Rates) -> tuple[Number, Number]:
    """Return bytes per second through all ports, both ways, and what a port that is up and held sends in the mean."""
    up = fabric.ports[placed.dies] & placed.links
    moved: Number = 0.0
    sent: Number = 0.0
    for role, pool in rates.pools.items():
        amounts = {kind: sum(getattr(work, kind) for work in pool.work) for kind in _OF_WORK}
        amounts |= {kind: getattr(pool, kind) for kind in _OF_POOL}
        for kind, amount in amounts.items():
            out, back = found.port_bytes({other: _unit(kind if other == role else "") for other in rates.pools})
            moved = moved + amount * float(out.sum() + back.sum())
            sent = sent + amount * (float(out[up].mean()) if up.any() else 0.0)
    return moved, sent


def _unit(kind: str) -> PoolRates:
    """Return a pool that does nothing but move one byte per second of a kind."""
    idle: dict[str, Any] = dict.fromkeys(_NO_BYTES, 0.0) | {"causes": {}}
    idle |= {name: float(kind == name) for name in _OF_WORK}
    handed: dict[str, Any] = {name: float(kind == name) for name in _OF_POOL}
    return PoolRates((PoolWork(**idle),), {}, **handed)
