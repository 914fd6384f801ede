"""One pure function from inputs to the state of the machine: no time, no I/O, equal inputs give equal figures.

Workloads that share servers whose uplinks are short share them by bytes: each sees what the others leave, at least its
fair share by dies, in a few rounds of a fixed point. On a healthy 1:1 fabric nothing is short and there is one round.
What CPUs send is taken off first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.constants import POD_EFFICIENCY
from supernode_dataplane.deployment_plan import Deployment, DeploymentPlan, deployment_of, memory_problem
from supernode_dataplane.devices import device_state, fabric_state, machine_power
from supernode_dataplane.fabric import Fabric, build_fabric, cpu_share, cpu_traffic
from supernode_dataplane.hardware import hardware_of
from supernode_dataplane.inference_running import run_deployment
from supernode_dataplane.machine import ServerInput, WorkloadInput
from supernode_dataplane.placing import Placed, describe_dies, place
from supernode_dataplane.profile import Profile
from supernode_dataplane.results import workload_result
from supernode_dataplane.running import run_training
from supernode_dataplane.runs import Run
from supernode_dataplane.state import MachineState, Problem
from supernode_dataplane.training import Plan, plan_training

__all__ = ["MODEL_VERSION", "linked_deployment", "solve"]

MODEL_VERSION: Final = "4"
"""Changes whenever equal inputs may give other figures."""
_ROUNDS: Final = 6
_SETTLED: Final = 1e-4
FloatArray = NDArray[np.float64]
_AnyPlan = Plan | Deployment


def solve(
    profile: Profile, compute_nodes: Sequence[ServerInput], workloads: Sequence[WorkloadInput], *, digest: str = ""
) -> MachineState:
    """Return the steady state of the machine with these faults and workloads; see :class:`MachineState`.

    ``compute_nodes`` say what is broken; servers that are not named have no faults. Arrays of the state have one row
    for each die, port, uplink, chip or module of the profile. Seconds, bytes, watts, tokens a second. A workload
    that cannot run raises nothing: its result has rate 0, a reason and a message. The error bar of each rate is in its
    result, percent. Sources: the figures of ``profile`` and data/stacks.yaml, each with its own.
    """
    fabric = build_fabric(profile, compute_nodes)
    ordered = sorted(workloads, key=lambda workload: workload.key)
    taken = np.zeros(profile.dies, dtype=np.bool_)
    placed = [place(profile, workload, taken) for workload in ordered]
    plans = [_plan(profile, workload, where) for workload, where in zip(ordered, placed, strict=True)]
    runs, contended = _run_all(fabric, placed, plans)
    devices = device_state(fabric, placed, runs)
    state = fabric_state(fabric, runs)
    results = tuple(
        workload_result(
            profile,
            workload,
            where,
            plan if isinstance(plan, Problem) else run,
            devices,
            contended=shares,
        )
        for workload, where, plan, run, shares in zip(ordered, placed, plans, runs, contended, strict=True)
    )
    return MachineState(
        profile=profile.name,
        digest=digest,
        version=MODEL_VERSION,
        workloads=results,
        devices=devices,
        fabric=state,
        power_watts=machine_power(profile, devices, state),
        tokens_per_second=sum(result.tokens_per_second for result in results),
        bus_bandwidth_bytes_per_second=fabric.bandwidth,
    )


def linked_deployment(
    profile: Profile, compute_nodes: Sequence[ServerInput], workload: WorkloadInput
) -> Deployment | None:
    """Return the whole instances of an inference workload that is alone, on the links that faults and packing leave.

    None when it cannot run, or is no inference: :func:`solve` says why.
    """
    fabric = build_fabric(profile, compute_nodes)
    placed = place(profile, workload, np.zeros(profile.dies, dtype=np.bool_))
    plan = _plan(profile, workload, placed)
    return run_deployment(fabric, placed, plan, cpu_share(fabric)).linked if isinstance(plan, Deployment) else None


def _plan(profile: Profile, workload: WorkloadInput, placed: Placed) -> _AnyPlan | Problem | None:
    if placed.problem is not None:
        return placed.problem
    if placed.grid is None:
        return None
    dies = int(placed.grid.size)
    if workload.inference is not None:
        return _deployment(profile, workload.inference, dies, placed.prefill_dies)
    return None if workload.training is None else plan_training(profile, workload.training, dies)


@lru_cache(maxsize=64)
def _deployment(profile: Profile, plan: DeploymentPlan, dies: int, prefill_dies: int) -> Deployment | Problem:
    """Return the pools of a plan; the last ones are kept, as what runs changes seldom."""
    text = describe_dies(profile, dies)
    deployment = deployment_of(plan, hardware_of(profile), dies, prefill_dies, text)
    return deployment if isinstance(deployment, Problem) else memory_problem(deployment) or deployment


def _run_all(
    fabric: Fabric, placed: Sequence[Placed], plans: Sequence[_AnyPlan | Problem | None]
) -> tuple[list[Run | None], list[bool]]:
    """Return every workload's pace, and whether others leave it less than all of the uplinks."""

    def run(index: int, free: FloatArray | None) -> Run | None:
        plan = plans[index]
        if isinstance(plan, Deployment):
            return run_deployment(fabric, placed[index], plan, free)
        return run_training(fabric, placed[index], plan, free) if isinstance(plan, Plan) else None

    left_by_cpus = cpu_share(fabric)
    runs = [run(index, left_by_cpus) for index in range(len(placed))]
    contended = [False] * len(placed)
    # The Clos is 1:1: with every uplink up the dies of a server cannot fill them, whoever they belong to.
    if (not fabric.uplinks_broken and left_by_cpus is None) or sum(r is not None for r in runs) < 2:
        return runs, contended
    per_server = fabric.profile.dies_per_server
    dies = np.array(
        [np.bincount(p.dies // per_server, minlength=fabric.profile.servers) for p in placed], dtype=np.float64
    )
    dies *= np.array([r is not None for r in runs])[:, None]
    shared = (dies > 0).sum(axis=0) > 1
    sharers = [index for index, r in enumerate(runs) if r is not None and bool((dies[index] > 0)[shared].any())]
    alone = list(runs)
    free: FloatArray | None = None
    for _ in range(_ROUNDS if sharers else 0):
        before, free = free, _left(fabric, runs, dies)
        if before is not None and np.allclose(before[sharers], free[sharers], rtol=_SETTLED):
            break
        runs = [run(index, free[index]) if index in sharers else r for index, r in enumerate(runs)]
    for index in sharers:
        first, last = alone[index], runs[index]
        if first is not None and last is not None:
            contended[index] = last.pace_seconds > first.pace_seconds * (1 + 1e-9)
    return runs, contended


def _left(fabric: Fabric, runs: Sequence[Run | None], dies: FloatArray) -> FloatArray:
    """Return the share of uplinks that others leave to each workload, at least its fair share: (workloads, servers,
    planes).

    ``dies`` (workloads, servers) counts those of workloads that run.
    """
    profile = fabric.profile
    others = np.repeat(cpu_traffic(fabric)[None], len(runs), axis=0)
    for index, run in enumerate(runs):
        if run is not None:
            sent = np.maximum(run.uplink_tx_bytes_per_second, run.uplink_rx_bytes_per_second)
            others[:index] += sent
            others[index + 1 :] += sent
    capacity = fabric.uplinks.sum(axis=2) * profile.port_bytes_per_second * POD_EFFICIENCY
    left = 1.0 - np.divide(others, capacity, out=np.ones_like(others), where=capacity > 0)
    total = dies.sum(axis=0)
    fair = np.divide(dies, total, out=np.ones_like(dies), where=total > 0)[:, :, None]
    left_by_cpus = cpu_share(fabric)
    share: FloatArray = np.clip(np.maximum(left, fair if left_by_cpus is None else fair * left_by_cpus), 0.0, 1.0)
    return share
