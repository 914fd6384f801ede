"""The Job of a managed workload: create, put right, suspend. Its pods are the Job controller's business."""

from __future__ import annotations

import structlog

from supernode_api import SuperNode, SuperNodeWorkload
from supernode_api.conditions import Reason
from supernode_api.names import managed_job_name
from supernode_dataplane.profile import Profile
from supernode_operator.domain.accept import Rejection
from supernode_operator.domain.jobs import build_job, build_job_scale, job_belongs, reject_job
from supernode_operator.domain.objects import Object, condition_is, is_deleting, name
from supernode_operator.engine.errors import ApiError, ConflictError, ForbiddenError, InvalidError, NotFoundError
from supernode_operator.engine.kinds import JOB, WORKLOAD
from supernode_operator.reconcilers.context import Context

__all__ = ["apply_job", "freeze_job"]

log = structlog.get_logger(__name__)

RETRY_SECONDS = 30.0
"""A foreign Job of that name, or whoever refuses ours, may go without telling us."""


async def apply_job(
    ctx: Context, raw: Object, workload: SuperNodeWorkload, super_node: SuperNode, profile: Profile
) -> Rejection | str | None:
    """Make the Job of a valid workload what it should be; says what stands in the way (a str: of its pods only)."""
    managed = workload.spec.pods.managed
    if managed is None:
        return None
    live = _live(ctx, raw)
    if live is None:
        return await _create(ctx, raw, workload, super_node, profile)
    if not job_belongs(live, raw):
        return _conflict(raw)
    if is_deleting(live):
        return "Its Job is being deleted; it is made anew when that is done."
    for type_ in ("Complete", "Failed"):
        if condition_is(live, type_):
            return f"Its Job is {type_} before the workload is: delete the Job, it is made anew."
    await _scale(ctx, live, managed.nodes, suspend=False)
    return None


async def freeze_job(ctx: Context, raw: Object) -> None:
    """Suspend the Job of a workload whose SuperNode goes or is gone; its size stays."""
    live = _live(ctx, raw)
    if live is not None and job_belongs(live, raw) and not is_deleting(live):
        finished = condition_is(live, "Complete") or condition_is(live, "Failed")
        if not finished:
            await _scale(ctx, live, int(live["spec"].get("completions") or 1), suspend=True)


def _live(ctx: Context, raw: Object) -> Object | None:
    return ctx.store.get(JOB, managed_job_name(name(raw)), raw["metadata"]["namespace"])


async def _scale(ctx: Context, live: Object, nodes: int, *, suspend: bool) -> None:
    patch = build_job_scale(live, nodes, suspend=suspend)
    if patch is None:
        return
    log.info("scale job", object=str(JOB.key(live)), nodes=nodes, suspend=suspend)
    await ctx.client.merge_patch(JOB, name(live), live["metadata"]["namespace"], patch)


async def _create(
    ctx: Context, raw: Object, workload: SuperNodeWorkload, super_node: SuperNode, profile: Profile
) -> Rejection | None:
    job = build_job(raw, workload, profile, super_node.spec.resources, ctx.pod_settings())
    try:
        # Not forced: fields of a foreign Job of that name are a conflict, never a take-over.
        await ctx.client.apply(JOB, job, force=False)
        log.info("create job", object=str(JOB.key(job)), nodes=job["spec"]["completions"])
    except (ConflictError, InvalidError, ForbiddenError) as error:
        return await _refused(ctx, raw, error)
    return None


async def _refused(ctx: Context, raw: Object, error: ApiError) -> Rejection:
    ctx.requeue(WORKLOAD.key(raw), RETRY_SECONDS, "JobRefused")
    try:
        live = await ctx.client.get(JOB, managed_job_name(name(raw)), raw["metadata"]["namespace"])
        if not job_belongs(live, raw):
            return _conflict(raw)
    except (NotFoundError, ForbiddenError):
        pass
    return reject_job(error.message, RETRY_SECONDS)


def _conflict(raw: Object) -> Rejection:
    where = f"{raw['metadata']['namespace']}/{managed_job_name(name(raw))}"
    return Rejection(
        Reason.JOB_CONFLICT,
        f"a Job {where} exists that is not this workload's: delete it, or give the workload another name",
    )
