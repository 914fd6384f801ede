"""One pure function from inputs to the state of the machine: no time, no I/O, equal inputs give equal figures.

Workloads that share servers whose uplinks are short share them by bytes: each sees what the others leave, at least its
fair share by dies, in a few rounds of a fixed point. On a healthy 1:1 fabric nothing is short and there is one round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from supernode_dataplane.constants import (
    ERROR_LARGE_PERCENT,
    ERROR_SMALL_PERCENT,
    LARGE_MODEL_PARAMETERS,
    POD_EFFICIENCY,
)
from supernode_dataplane.devices import device_state, fabric_state, machine_power
from supernode_dataplane.fabric import Fabric, build_fabric
from supernode_dataplane.machine import ServerInput, WorkloadInput
from supernode_dataplane.placing import Placed, place
from supernode_dataplane.profile import Profile
from supernode_dataplane.running import Run, run_workload
from supernode_dataplane.state import DeviceState, MachineState, Problem, WorkloadResult
from supernode_dataplane.training import Plan, plan_training

__all__ = ["MODEL_VERSION", "solve"]

MODEL_VERSION: Final = "1"
"""Changes whenever equal inputs may give other figures."""
_ROUNDS: Final = 6
_SETTLED: Final = 1e-4
FloatArray = NDArray[np.float64]


def solve(
    profile: Profile, compute_nodes: Sequence[ServerInput], workloads: Sequence[WorkloadInput], *, digest: str = ""
) -> MachineState:
    """Return the steady state of the machine with these faults and workloads; see :class:`MachineState`."""
    fabric = build_fabric(profile, compute_nodes)
    ordered = sorted(workloads, key=lambda workload: workload.key)
    taken = np.zeros(profile.dies, dtype=np.bool_)
    placed = [place(profile, workload, taken) for workload in ordered]
    plans = [_plan(profile, workload, where) for workload, where in zip(ordered, placed, strict=True)]
    runs, contended = _run_all(fabric, placed, plans)
    devices = device_state(fabric, placed, runs)
    state = fabric_state(fabric, runs)
    results = tuple(
        _result(profile, workload, where, plan, run=run, contended=shares, devices=devices)
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


def _plan(profile: Profile, workload: WorkloadInput, placed: Placed) -> Plan | Problem | None:
    if placed.problem is not None:
        return placed.problem
    if placed.grid is None or workload.training is None:
        return None
    return plan_training(profile, workload.training, int(placed.grid.size))


def _run_all(
    fabric: Fabric, placed: Sequence[Placed], plans: Sequence[Plan | Problem | None]
) -> tuple[list[Run | None], list[bool]]:
    """Return every workload's pace, and whether others leave it less than all of the uplinks."""

    def run(index: int, free: FloatArray | None) -> Run | None:
        plan = plans[index]
        return run_workload(fabric, placed[index], plan, free) if isinstance(plan, Plan) else None

    runs = [run(index, None) for index in range(len(placed))]
    contended = [False] * len(placed)
    # The Clos is 1:1: with every uplink up the dies of a server cannot fill them, whoever they belong to.
    if fabric.common is None or sum(r is not None for r in runs) < 2:
        return runs, contended
    per_server = fabric.profile.dies_per_server
    dies = np.array(
        [np.bincount(p.dies // per_server, minlength=fabric.profile.servers) for p in placed], dtype=np.float64
    )
    dies *= np.array([r is not None for r in runs])[:, None]
    shared = (dies > 0).sum(axis=0) > 1
    sharers = [index for index, r in enumerate(runs) if r is not None and bool((dies[index] > 0)[shared].any())]
    alone = list(runs)
    frees: dict[int, FloatArray] = {}
    for _ in range(_ROUNDS if sharers else 0):
        before, frees = frees, {index: _left(fabric, runs, dies, index) for index in sharers}
        if before and all(np.allclose(before[index], frees[index], rtol=_SETTLED) for index in sharers):
            break
        runs = [run(index, frees[index]) if index in frees else r for index, r in enumerate(runs)]
    for index in sharers:
        first, last = alone[index], runs[index]
        if first is not None and last is not None:
            contended[index] = last.step.seconds > first.step.seconds * (1 + 1e-9)
    return runs, contended


def _left(fabric: Fabric, runs: Sequence[Run | None], dies: FloatArray, index: int) -> FloatArray:
    """Return the share of each server's uplinks that others leave to a workload, at least its fair share."""
    profile = fabric.profile
    others = np.zeros((profile.servers, profile.planes))
    for other, run in enumerate(runs):
        if other != index and run is not None:
            others += run.uplink_bytes_per_second
    capacity = fabric.uplinks.sum(axis=2) * profile.port_bytes_per_second * POD_EFFICIENCY
    left = 1.0 - np.divide(others, capacity, out=np.ones_like(others), where=capacity > 0)
    total = dies.sum(axis=0)
    fair = np.divide(dies[index], total, out=np.ones_like(total), where=total > 0)[:, None]
    share: FloatArray = np.clip(np.maximum(left, fair), 0.0, 1.0)
    return share


def _result(
    profile: Profile,
    workload: WorkloadInput,
    placed: Placed,
    plan: Plan | Problem | None,
    *,
    run: Run | None,
    contended: bool,
    devices: DeviceState,
) -> WorkloadResult:
    cards = len(set((placed.dies // profile.dies_per_package).tolist()))
    base = WorkloadResult(
        key=workload.key,
        problem=plan if isinstance(plan, Problem) else None,
        waiting=placed.waiting if run is None else run.waiting,
        notes=placed.notes,
        dies=placed.dies.size,
        cards=cards,
        spans_servers=placed.spans_servers,
        links_mismatch=placed.links_mismatch,
    )
    if run is None or run.tokens_per_second <= 0 or not isinstance(plan, Plan):
        return base
    spec = plan.spec
    flops = run.tokens_per_second * spec.model.training_flops_per_token(spec.sequence_length)
    breakdown = dict(run.step.breakdown)
    if run.lost_replicas:
        breakdown["lost_replicas"] = run.seconds - run.step.seconds
    ports = devices.port_up[placed.dies] & placed.links
    traffic = devices.port_tx_bytes_per_second[placed.dies]
    notes = run.notes + (("shares short uplinks with other workloads",) if contended else ())
    large = spec.model.parameters >= LARGE_MODEL_PARAMETERS
    return WorkloadResult(
        key=base.key,
        notes=base.notes + notes,
        tokens_per_second=run.tokens_per_second,
        tokens_per_second_per_card=run.tokens_per_second / cards,
        tokens_per_step=spec.global_batch_size * spec.sequence_length,
        mfu=flops / (placed.dies.size * profile.bf16_flops_per_die),
        step_time_seconds=run.seconds,
        bound=run.step.bound,
        breakdown_seconds=breakdown,
        expected_error_percent=ERROR_LARGE_PERCENT if large else ERROR_SMALL_PERCENT,
        recompute_fraction=plan.memory.recompute,
        hbm_bytes_per_die=float(devices.hbm_used_bytes[placed.dies].max()),
        link_utilisation=float(traffic[ports].mean() / profile.port_bytes_per_second) if ports.any() else 0.0,
        power_watts=float(devices.power_watts[placed.dies].sum()),
        dies=base.dies,
        cards=cards,
        spans_servers=base.spans_servers,
        links_mismatch=base.links_mismatch,
    )
