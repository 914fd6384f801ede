"""The JSON that cabinets answer under ``/v1``: how far a workload is, what the machine does. The moment comes in.

A workload is Complete only when the operator has said so (completionTime): its pods exit then, and not one token
before. Until then the tokens are extrapolated from status.progress, never beyond the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supernode_api.conditions import ConditionType, Reason, find_condition
from supernode_cabinet.snapshot import Snapshot
from supernode_dataplane.figures import decimal, machine_performance, workload_performance
from supernode_dataplane.progress import target_tokens, tokens_at, tokens_per_step
from supernode_dataplane.state import WorkloadResult

__all__ = ["machine_view", "workload_view"]

_MESSAGES: Final = {
    "Running": "every rank runs",
    "Complete": "all tokens are done",
    "Waiting": "ranks are missing or not running",
}


def workload_view(snapshot: Snapshot, namespace: str, name: str, now_epoch_seconds: float) -> dict[str, Any] | None:
    """Return what /v1/workloads/<namespace>/<name> answers at a moment, or None when there is no such workload."""
    workload = snapshot.workloads.get(f"{namespace}/{name}")
    if workload is None:
        return None
    spec, status = _dict(workload.get("spec")), _dict(workload.get("status"))
    result = snapshot.state.workload(f"{namespace}/{name}") or WorkloadResult(key=f"{namespace}/{name}")
    tokens, target, per_step = _progress(spec, status, now_epoch_seconds)
    state = _state(status, result)
    reason, message = _why(status, result, state)
    performance = workload_performance(result)
    return {
        "namespace": namespace,
        "name": name,
        "state": state,
        "reason": reason,
        "message": message,
        "tokens": tokens,
        "steps": tokens // per_step,
        "targetTokens": target,
        "tokensPerStep": per_step,
        "tokensPerSecond": performance["tokensPerSecond"] if state == "Running" else "0",
        "tokensPerSecondPerCard": performance["tokensPerSecondPerCard"] if state == "Running" else "0",
        "stepTimeSeconds": performance["stepTimeSeconds"],
        "mfu": performance["mfu"],
        "ttftSeconds": performance.get("ttftSeconds", "0"),
        "tpotSeconds": performance.get("tpotSeconds", "0"),
        "promptTokensPerSecond": performance.get("promptTokensPerSecond", "0") if state == "Running" else "0",
        "globalBatchSize": _dict(spec.get("training")).get("globalBatchSize"),
        "mode": _dict(spec.get("inference")).get("mode") or "Training",
        "model": _dict(spec.get("model")).get("name") or "custom",
        "digest": snapshot.state.digest,
        "version": snapshot.state.version,
        "ranks": _ranks(status),
    }


def machine_view(snapshot: Snapshot) -> dict[str, Any]:
    """Return what /v1/machine answers: which inputs, which model, and the figures of machine and workloads."""
    state = snapshot.state
    return {
        "name": snapshot.super_node,
        "profile": state.profile,
        "digest": state.digest,
        "version": state.version,
        "cabinets": list(snapshot.shard.cabinets),
        "servers": list(snapshot.shard.servers),
        "l2Chips": len(snapshot.shard.l2_chips),
        "performance": machine_performance(state),
        "workloads": {result.key: _performance(result) for result in state.workloads},
    }


def _performance(result: WorkloadResult) -> dict[str, Any]:
    figures = workload_performance(result)
    if result.problem is not None:
        figures["problem"] = f"{result.problem.field}: {result.problem.message}"
    if result.waiting:
        figures["waiting"] = result.waiting
    return figures


def _progress(spec: Mapping[str, Any], status: Mapping[str, Any], now: float) -> tuple[int, int | None, int]:
    try:
        target, per_step = target_tokens(spec), max(tokens_per_step(spec), 1)
    except (KeyError, TypeError, ValueError):
        return 0, None, 1
    progress = status.get("progress")
    try:
        return tokens_at(progress, target, now) if isinstance(progress, Mapping) else 0, target, per_step
    except (TypeError, ValueError):
        # Garbled progress is the operator's to repair; pods wait meanwhile instead of seeing an error.
        return 0, target, per_step


def _state(status: Mapping[str, Any], result: WorkloadResult) -> str:
    if status.get("completionTime"):
        return "Complete"
    rate = decimal(result.tokens_per_second)
    return "Running" if rate != "0" and _dict(status.get("progress")).get("tokensPerSecond", "0") != "0" else "Waiting"


def _why(status: Mapping[str, Any], result: WorkloadResult, state: str) -> tuple[str, str]:
    if state == "Complete":
        return Reason.COMPLETED, _MESSAGES[state]
    if result.problem is not None:
        return result.problem.reason, result.problem.message
    if state == "Running":
        return Reason.RUNNING, "; ".join(result.notes) or _MESSAGES[state]
    conditions = status.get("conditions")
    ready = (
        find_condition([c for c in conditions if isinstance(c, dict)], ConditionType.READY)
        if isinstance(conditions, list)
        else None
    )
    reason = str((ready or {}).get("reason") or Reason.WAITING_FOR_PODS)
    return reason, result.waiting or str((ready or {}).get("message") or _MESSAGES[state])


def _ranks(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    ranks = _dict(status.get("placement")).get("ranks")
    return [
        {key: rank.get(key) for key in ("rank", "pod", "running", "parts")}
        for rank in (ranks if isinstance(ranks, list) else [])
        if isinstance(rank, Mapping)
    ]


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
