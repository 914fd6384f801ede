"""From a run to what its workload is told: rates, times, what bounds it, memory. One function for each kind of run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from supernode_dataplane.expected_error import deployment_error_percent, training_error_percent
from supernode_dataplane.inference_running import InferenceRun
from supernode_dataplane.machine import WorkloadInput
from supernode_dataplane.placing import Placed
from supernode_dataplane.pool_rates import Rates
from supernode_dataplane.profile import Profile
from supernode_dataplane.running import TrainingRun
from supernode_dataplane.runs import Run, Stall
from supernode_dataplane.state import DeviceState, Problem, WorkloadResult
from supernode_dataplane.training import model_flops_share

__all__ = ["workload_result"]


def workload_result(
    profile: Profile,
    workload: WorkloadInput,
    placed: Placed,
    outcome: Run | Problem | None,
    devices: DeviceState,
    *,
    contended: bool,
) -> WorkloadResult:
    """Return the result of one workload; ``outcome`` is its run, why it has none, or None while it waits."""
    cards = int(np.count_nonzero(np.bincount(placed.dies // profile.dies_per_package)))
    run = outcome if isinstance(outcome, Run) else None
    stall = run.stall if run is not None else Stall("Incomplete", placed.waiting) if placed.waiting else None
    base: dict[str, Any] = {
        "key": workload.key,
        "kind": "training" if workload.inference is None else "inference",
        "problem": outcome if isinstance(outcome, Problem) else None,
        "waiting": "" if stall is None else stall.message,
        "waiting_reason": None if stall is None else stall.reason,
        "notes": placed.notes,
        "dies": placed.dies.size,
        "cards": cards,
        "spans_servers": placed.spans_servers,
        "links_mismatch": placed.links_mismatch,
    }
    if run is None or run.tokens_per_second <= 0:
        return WorkloadResult(**base)
    ports = devices.port_up[placed.dies] & placed.links
    traffic = devices.port_tx_bytes_per_second[placed.dies]
    base |= {
        "waiting": "",
        "waiting_reason": None,
        "notes": placed.notes + run.notes + _shared(profile, placed, contended=contended),
        "tokens_per_second": run.tokens_per_second,
        "tokens_per_second_per_card": run.tokens_per_second / cards,
        "hbm_bytes_per_die": float(devices.hbm_used_bytes[placed.dies].max()),
        "link_utilisation": float(traffic[ports].mean() / profile.port_bytes_per_second) if ports.any() else 0.0,
        "power_watts": float(devices.power_watts[placed.dies].sum()),
    }
    if isinstance(run, TrainingRun):
        return WorkloadResult(**base, **_training(profile, placed.dies.size, run))
    if isinstance(run, InferenceRun) and run.rates is not None:
        return WorkloadResult(**base, **_inference(placed.dies.size, run, run.rates))
    raise TypeError(f"no results for a {type(run).__name__}")


def _shared(profile: Profile, placed: Placed, *, contended: bool) -> tuple[str, ...]:
    """Return what else is on the uplinks of a workload."""
    notes = ["shares short uplinks with other workloads"] if contended else []
    servers = placed.dies // profile.dies_per_server
    if profile.cpu_bytes_per_second and (servers != servers[0]).any():
        notes.append(f"CPUs send {profile.cpu_bytes_per_second / 1e9:g} GB/s from each server over the same uplinks")
    return tuple(notes)


def _training(profile: Profile, dies: int, run: TrainingRun) -> dict[str, Any]:
    spec = run.plan.spec
    breakdown = dict(run.step.breakdown)
    if run.lost_replicas:
        breakdown["lost_replicas"] = run.seconds - run.step.seconds
    return {
        "tokens_per_step": spec.global_batch_size * spec.sequence_length,
        "mfu": model_flops_share(profile, spec, run.tokens_per_second, dies),
        "step_time_seconds": run.seconds,
        "bound": run.step.bound,
        "breakdown_seconds": breakdown,
        "expected_error_percent": training_error_percent(profile, spec, dies),
        "recompute_fraction": run.plan.memory.recompute,
        "spare_compute_seconds": run.step.spare_seconds,
    }


def _inference(dies: int, run: InferenceRun, rates: Rates) -> dict[str, Any]:
    step = rates.decode if rates.decode is not None else rates.prefill
    return {
        "tokens_per_step": run.deployment.plan.tokens_per_request,
        "mfu": rates.flops_per_second / (dies * rates.peak),
        "step_time_seconds": rates.step_seconds,
        "ttft_seconds": rates.ttft_seconds,
        "tpot_seconds": rates.tpot_seconds,
        "prompt_tokens_per_second": rates.prompt_tokens_per_second,
        "bound": rates.bound,
        "breakdown_seconds": None if step is None else _plain(step.breakdown),
        "prefill_breakdown_seconds": _plain(rates.prefill.breakdown) if rates.decode and rates.prefill else None,
        "memory_bytes": rates.fullest.memory,
        "expected_error_percent": deployment_error_percent(run.deployment),
    }


def _plain(breakdown: Mapping[str, float]) -> dict[str, float]:
    return {cause: float(seconds) for cause, seconds in breakdown.items() if float(seconds) != 0.0}
