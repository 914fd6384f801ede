"""One SuperNodeWorkload.

1. Is it valid? If not: no Job is made; the last valid one stays.
2. Managed: its Job (suspended while its SuperNode goes or is gone).
3. Its pods, their ranks, and what they hold: the placement.
4. Solve the machine with that placement: the performance.
5. Progress and completion; look again at the predicted end.
6. Status: placement, performance, progress and conditions in one write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from supernode_api import SuperNode, SuperNodeWorkload
from supernode_api.workload import WorkloadStatus
from supernode_dataplane.errors import DataplaneError
from supernode_dataplane.profile import Profile, load_profile
from supernode_dataplane.progress import target_tokens, tokens_per_step
from supernode_dataplane.state import MachineState, WorkloadResult
from supernode_operator.domain.accept import Rejection, parse_super_node, parse_workload, reject_super_node
from supernode_operator.domain.allocations import join_holdings
from supernode_operator.domain.claims import claim_of, elder_claims, reject_workload
from supernode_operator.domain.objects import Object, is_deleting, namespaced_name
from supernode_operator.domain.progressing import ProgressPlan, plan_progress
from supernode_operator.domain.ranks import assign_ranks, build_placement, claim_pods, reject_ranks
from supernode_operator.domain.workload_status import WorkloadView, build_workload_status
from supernode_operator.engine.kinds import POD, SUPER_NODE, WORKLOAD, Key
from supernode_operator.reconcilers.context import Context
from supernode_operator.reconcilers.jobs import apply_job, freeze_job
from supernode_operator.reconcilers.statuses import write_status

__all__ = ["reconcile_workload"]

log = structlog.get_logger(__name__)

NO_PLACEMENT: dict[str, Any] = {"nodes": 0, "dies": 0, "cabinets": 0, "ranks": []}


@dataclass(frozen=True, slots=True)
class _Machine:
    """What a workload's SuperNode is."""

    raw: Object | None = None
    super_node: SuperNode | None = None
    profile: Profile | None = None
    refused: Rejection | None = None

    @property
    def usable(self) -> bool:
        """Whether it is there to stay."""
        return self.raw is not None and not is_deleting(self.raw)


async def reconcile_workload(ctx: Context, key: Key) -> None:
    """Bring one workload's Job and status up to date."""
    raw = ctx.store.get(WORKLOAD, key.name, key.namespace)
    if raw is None:
        return
    workload = parse_workload(raw)
    if isinstance(workload, Rejection):
        await _write(ctx, raw, _bare_view(raw, workload))
        return
    machine = _machine(ctx, workload.spec.super_node)
    allowed = ctx.config.allows_jobs_in(key.namespace)
    rejection, problem = None, ""
    completed = bool((raw.get("status") or {}).get("completionTime"))
    if not completed:  # what has been done was accepted, also when its machine is gone
        rejection = reject_workload(raw, workload, machine.raw, machine.refused, machine.profile, allowed=allowed)
        if not is_deleting(raw):
            rejection, problem = await _manage_job(ctx, raw, workload, machine, rejection)
    await _write(ctx, raw, _view(ctx, raw, workload, machine, (rejection, problem)))


async def _manage_job(
    ctx: Context, raw: Object, workload: SuperNodeWorkload, machine: _Machine, rejection: Rejection | None
) -> tuple[Rejection | None, str]:
    if not machine.usable:
        await freeze_job(ctx, raw)
        return rejection, ""
    if rejection is not None or machine.super_node is None or machine.profile is None:
        return rejection, ""
    obstacle = await apply_job(ctx, raw, workload, machine.super_node, machine.profile)
    if isinstance(obstacle, Rejection):
        return obstacle, ""
    return None, obstacle or ""


def _machine(ctx: Context, super_node: str) -> _Machine:
    raw = ctx.store.get(SUPER_NODE, super_node)
    if raw is None:
        return _Machine()
    parsed = parse_super_node(raw)
    refused = parsed if isinstance(parsed, Rejection) else reject_super_node(raw, ctx.super_nodes())
    if isinstance(parsed, Rejection) or refused is not None:
        return _Machine(raw, None, None, refused)
    return _Machine(raw, parsed, load_profile(parsed.spec.profile))


def _view(
    ctx: Context, raw: Object, workload: SuperNodeWorkload, machine: _Machine, verdict: tuple[Rejection | None, str]
) -> WorkloadView:
    namespace = raw["metadata"]["namespace"]
    elders = elder_claims(raw, ctx.store.list(WORKLOAD, namespace))
    pods, contested = claim_pods(ctx.store.list(POD, namespace), claim_of(workload), elders)
    ranks, placement = assign_ranks(pods), NO_PLACEMENT
    excess = reject_ranks(ranks)
    if machine.profile is not None and excess is None:
        holdings, _ = join_holdings(ctx.compute_nodes(workload.spec.super_node), ctx.find_pod)
        placement = build_placement(ranks, holdings, ctx.nodes(), machine.profile.servers_per_cabinet)
    state, result = _solve(ctx, raw, machine, placement)
    rate = result.tokens_per_second if result is not None and result.problem is None else 0.0
    target = target_tokens(raw["spec"])
    progress = _plan(ctx, raw, rate, target)
    if progress.complete and placement is not NO_PLACEMENT:
        # Done: its pods do no work while they end, and whatever they still hold reads as held and idle.
        pods, contested, placement = [], [], NO_PLACEMENT
        state, result = _solve(ctx, raw, machine, placement)
    managed = workload.spec.pods.managed
    return WorkloadView(
        raw=raw,
        rejection=verdict[0] or (None if progress.complete else excess),  # what has been done was accepted
        suspended=machine.raw is not None and is_deleting(machine.raw),
        pods=pods,
        contested=contested,
        placement=placement,
        expected_ranks=managed.nodes if managed is not None else len(placement["ranks"]),
        result=result,
        stamp={"digest": state.digest, "version": state.version} if state is not None else None,
        progress=progress,
        job_problem=verdict[1],
        target_tokens=target,
        servers=machine.profile.servers if managed is not None and machine.profile is not None else None,
    )


def _plan(ctx: Context, raw: Object, rate: float, target: int | None) -> ProgressPlan:
    status, now = raw.get("status") or {}, ctx.clock()
    try:
        plan = plan_progress(status, rate, target, tokens_per_step(raw["spec"]), now)
    except ValueError as error:  # somebody wrote over status.progress: it starts anew from what can be read
        log.warning("unreadable progress", object=namespaced_name(raw), error=str(error))
        plan = plan_progress({}, rate, target, tokens_per_step(raw["spec"]), now)
    if plan.wake_epoch is not None:
        ctx.requeue(WORKLOAD.key(raw), max(0.0, plan.wake_epoch - now) + 0.001, "Completion")
    return plan


def _solve(
    ctx: Context, raw: Object, machine: _Machine, placement: dict[str, Any]
) -> tuple[MachineState | None, WorkloadResult | None]:
    """Solve the machine as it is once this workload's status says this placement."""
    if machine.raw is None or machine.profile is None:
        return None, None
    name = machine.raw["metadata"]["name"]
    mine = {**raw, "status": {**(raw.get("status") or {}), "placement": placement}}
    others = [w for w in ctx.workloads(name) if WORKLOAD.key(w) != WORKLOAD.key(raw)]
    try:
        state = ctx.solver.solve(machine.raw, ctx.compute_nodes(name), [*others, mine])
    except DataplaneError:
        return None, None
    return state, state.workload(namespaced_name(raw))


def _bare_view(raw: Object, rejection: Rejection) -> WorkloadView:
    """The view of a workload that cannot even be read."""
    old = raw.get("status") or {}
    return WorkloadView(
        raw=raw,
        rejection=rejection,
        suspended=False,
        pods=[],
        contested=[],
        placement=NO_PLACEMENT,
        expected_ranks=0,
        result=None,
        stamp=None,
        progress=ProgressPlan(old.get("progress"), old.get("completionTime")),
    )


async def _write(ctx: Context, raw: Object, view: WorkloadView) -> None:
    await write_status(ctx, WORKLOAD, raw, build_workload_status(view, ctx.now()), WorkloadStatus)
