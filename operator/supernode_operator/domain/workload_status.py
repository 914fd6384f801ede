"""SuperNodeWorkload.status: the verdicts behind its conditions, and the whole status from its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supernode_api.conditions import ConditionType, Reason
from supernode_dataplane.figures import decimal, workload_performance
from supernode_dataplane.state import WorkloadResult
from supernode_operator.domain.accept import Rejection
from supernode_operator.domain.objects import Object, some
from supernode_operator.domain.progressing import ProgressPlan
from supernode_operator.domain.verdicts import Verdict, conditions_of, fine

__all__ = ["WorkloadView", "build_workload_status", "unschedulable_message"]


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """Everything that the status of one workload is made of."""

    raw: Object
    rejection: Rejection | None
    """Why it is not accepted."""
    suspended: bool
    """Its SuperNode is being deleted."""
    pods: Sequence[Object]
    contested: Sequence[tuple[str, str]]
    """(pod, older workload that has it)."""
    placement: Mapping[str, Any]
    expected_ranks: int
    result: WorkloadResult | None
    stamp: Mapping[str, Any] | None
    progress: ProgressPlan
    job_problem: str = ""
    """What is wrong with the Job although the workload is fine."""
    target_tokens: int | None = None
    servers: int | None = None
    """Servers of the machine, where each pod takes a whole one (managed)."""


def build_workload_status(view: WorkloadView, now: str) -> dict[str, Any]:
    """Build the whole status; figures and placement always belong together."""
    generation = view.raw["metadata"].get("generation", 0)
    old = (view.raw.get("status") or {}).get("conditions") or []
    status: dict[str, Any] = {
        "conditions": conditions_of(old, _verdicts(view), generation=generation, now=now),
        "observedGeneration": generation,
        "placement": dict(view.placement),
        "performance": workload_performance(view.result or WorkloadResult(key="")),
    }
    if view.progress.progress is not None:
        status["progress"] = dict(view.progress.progress)
    if view.progress.completion_time is not None:
        status["completionTime"] = view.progress.completion_time
    if view.stamp is not None:
        status["model"] = dict(view.stamp)
    return status


def unschedulable_message(pods: Sequence[Object]) -> str:
    """Return what the scheduler says about the first pod that it cannot place, or nothing."""
    for pod in pods:
        for condition in pod["status"].get("conditions") or []:
            if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
                return f"pod {pod['metadata']['name']}: {condition.get('message', '')}"
    return ""


def _verdicts(view: WorkloadView) -> list[Verdict]:
    accepted = fine(ConditionType.ACCEPTED, "The workload is valid.")
    if view.rejection is not None:
        accepted = Verdict(ConditionType.ACCEPTED, False, view.rejection.reason, view.rejection.message)
    result = view.result
    spans = list(result.spans_servers) if result is not None else []
    mismatch = list(result.links_mismatch) if result is not None else []
    return [
        _judge_ready(view),
        accepted,
        _judge_complete(view),
        _applies(
            ConditionType.SPANS_SERVERS,
            Reason.SPANS_SERVERS,
            f"rank {_ranks(spans)}: one container has dies of several servers; ask for at most a server's dies"
            if spans
            else "",
        ),
        _applies(
            ConditionType.LINKS_MISMATCH,
            Reason.LINKS_MISMATCH,
            f"rank {_ranks(mismatch)}: links of dies that it does not hold carry nothing" if mismatch else "",
        ),
        _applies(ConditionType.PODS_CONTESTED, Reason.PODS_CONTESTED, _describe_contest(view)),
    ]


def _judge_complete(view: WorkloadView) -> Verdict:
    type_ = ConditionType.COMPLETE
    if view.progress.complete:
        tokens = (view.progress.progress or {}).get("tokens", 0)
        return Verdict(type_, True, Reason.COMPLETED, f"{tokens} tokens at {view.progress.completion_time}")
    endless = "endless: no target is given" if view.target_tokens is None else f"of {view.target_tokens} tokens"
    return Verdict(type_, False, Reason.INCOMPLETE, endless)


def _judge_ready(view: WorkloadView) -> Verdict:
    """The summary: the first thing that keeps the workload from making tokens."""
    type_ = ConditionType.READY
    if view.progress.complete:
        return Verdict(type_, False, Reason.COMPLETED, "The workload is complete.")
    ranks = view.placement.get("ranks") or []
    result = view.result
    if result is not None and result.problem is None and decimal(result.tokens_per_second) != "0":
        return Verdict(type_, True, Reason.RUNNING, _describe_running(view, result))
    if view.rejection is not None:
        return Verdict(type_, False, view.rejection.reason, view.rejection.message)
    if view.suspended:
        return Verdict(type_, False, Reason.SUSPENDED, "Its SuperNode is being deleted: the Job is suspended.")
    stuck = unschedulable_message(view.pods)
    if stuck:
        return Verdict(type_, False, Reason.UNSCHEDULABLE, _describe_excess(view) + stuck)
    if view.job_problem:
        return Verdict(type_, False, Reason.INCOMPLETE, view.job_problem)
    if not ranks:
        if view.contested:
            return Verdict(type_, False, Reason.PODS_CONTESTED, _describe_contest(view))
        return Verdict(type_, False, Reason.WAITING_FOR_PODS, "No pod of it is there yet.")
    missing = _describe_missing(view, ranks)
    if missing:
        return Verdict(type_, False, Reason.INCOMPLETE, missing)
    if result is not None and result.problem is not None:
        return Verdict(type_, False, Reason(result.problem.reason), f"{result.problem.field}: {result.problem.message}")
    if result is not None and result.waiting_reason is not None:
        return Verdict(type_, False, Reason(result.waiting_reason), result.waiting)
    return Verdict(type_, False, Reason.INCOMPLETE, "The machine gives it no rate.")


def _describe_excess(view: WorkloadView) -> str:
    if view.servers is None or view.expected_ranks <= view.servers:
        return ""
    asked = f"spec.pods.managed.nodes asks for {view.expected_ranks} servers"
    return f"{asked} and the machine has {view.servers}: lower it; "


def _describe_missing(view: WorkloadView, ranks: Sequence[Mapping[str, Any]]) -> str:
    absent = max(0, view.expected_ranks - len(ranks))
    idle = [f"{r['rank']} ({r['pod']})" for r in ranks if not r["running"]]
    parts = []
    if absent:
        parts.append(f"{absent} of {view.expected_ranks} ranks have no pod")
    if idle:
        parts.append(f"not running: rank {some(idle, 4)}")
    return "; ".join(parts)


def _describe_running(view: WorkloadView, result: WorkloadResult) -> str:
    bound = f", bound by {result.bound}" if result.bound else ""
    notes = "".join(f"; {note}" for note in result.notes)
    place = view.placement
    latency = f"TPOT {decimal(result.tpot_seconds * 1e3)} ms, " if result.tpot_seconds else ""
    return (
        f"{decimal(result.tokens_per_second_per_card)} tokens/s on each card, {latency}"
        f"{place['dies']} dies on {place['nodes']} servers{bound}{notes}"
    )


def _describe_contest(view: WorkloadView) -> str:
    if not view.contested:
        return ""
    pods = [pod for pod, _ in view.contested]
    elders = sorted({elder for _, elder in view.contested})
    return f"{some(pods)}: the older workload {some(elders, 3)} has them; narrow one of the selectors"


def _applies(type_: ConditionType, reason: Reason, message: str) -> Verdict:
    if message:
        return Verdict(type_, True, reason, message, only_when_true=True)
    return Verdict(type_, False, Reason.AS_EXPECTED, only_when_true=True)


def _ranks(numbers: list[int]) -> str:
    return some([str(number) for number in numbers], 6)
