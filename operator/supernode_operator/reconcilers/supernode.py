"""One SuperNode.

1. Refused (profile, superPodID): say so, and make nothing.
2. Being deleted: hand everything back (see :mod:`supernode_operator.reconcilers.deletion`).
3. Our finalizer, before anything that needs it.
4. Choose Kubernetes nodes, deal the servers.
5. Label the chosen nodes; make, place and delete ComputeNodes; take labels off nodes that we left.
6. Cabinets: Service and StatefulSets; none while every node that matches is refused.
7. Status, from what is there now.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from supernode_api import SuperNode
from supernode_api.names import NODES_FINALIZER
from supernode_api.supernode import Placement, SuperNodeStatus
from supernode_dataplane.profile import Profile, load_profile
from supernode_operator.domain.accept import Rejection, parse_super_node, reject_super_node
from supernode_operator.domain.compute_nodes import build_compute_node, node_name, server_index
from supernode_operator.domain.nodes import NodeChoice, choose_nodes, find_lockout, wanted_nodes
from supernode_operator.domain.objects import Object, is_deleting, name, subsumes, uid
from supernode_operator.domain.placing import plan_dedicated, plan_packed
from supernode_operator.domain.supernode_status import build_rejected_status
from supernode_operator.engine.errors import ApiError
from supernode_operator.engine.kinds import COMPUTE_NODE, SUPER_NODE, Key
from supernode_operator.reconcilers.cabinets import apply_cabinets
from supernode_operator.reconcilers.context import Context
from supernode_operator.reconcilers.deletion import delete_super_node
from supernode_operator.reconcilers.labels import label_nodes, leave_nodes
from supernode_operator.reconcilers.machine import write_machine_status
from supernode_operator.reconcilers.statuses import write_status

__all__ = ["reconcile_super_node"]

log = structlog.get_logger(__name__)


async def reconcile_super_node(ctx: Context, key: Key) -> None:
    """Bring one SuperNode to what it says."""
    raw = ctx.store.get(SUPER_NODE, key.name)
    if raw is None:
        return
    parsed = parse_super_node(raw)
    if is_deleting(raw):
        await delete_super_node(ctx, raw, None if isinstance(parsed, Rejection) else parsed)
        return
    rejection = parsed if isinstance(parsed, Rejection) else reject_super_node(raw, ctx.super_nodes())
    if rejection is not None or isinstance(parsed, Rejection):
        if rejection is not None:
            await write_status(ctx, SUPER_NODE, raw, build_rejected_status(raw, rejection, ctx.now()), SuperNodeStatus)
        return
    raw = await _hold(ctx, raw)
    profile = load_profile(parsed.spec.profile)
    wanted = wanted_nodes(raw, ctx.nodes().values())
    choice = choose_nodes(raw, ctx.super_nodes(), wanted, ctx.compute_nodes_on(wanted))
    plan = _plan(ctx, parsed, profile, choice)
    log.debug(
        "plan", object=str(key), generation=raw["metadata"].get("generation"), nodes=choice.usable, placed=len(plan)
    )
    errors: list[ApiError] = []
    try:
        await label_nodes(ctx, parsed.metadata.name, set(plan.values()))
        await _apply_compute_nodes(ctx, raw, parsed, profile, plan)
        await leave_nodes(ctx, parsed, set(plan.values()))
    except ApiError as error:  # a node that resists does not keep the cabinets and the status from their turn
        errors.append(error)
    try:
        lockout = find_lockout(choice, ctx.compute_nodes(parsed.metadata.name))
        await apply_cabinets(ctx, raw, parsed, profile, lockout)
    except ApiError as error:
        errors.append(error)
    await write_machine_status(ctx, raw, parsed, profile, choice)
    if errors:
        raise errors[0]


async def _hold(ctx: Context, raw: Object) -> Object:
    if NODES_FINALIZER in (raw["metadata"].get("finalizers") or []):
        return raw
    metadata = {"name": name(raw), "uid": uid(raw), "finalizers": [NODES_FINALIZER]}
    await ctx.client.apply(SUPER_NODE, {"metadata": metadata})
    return ctx.store.get(SUPER_NODE, name(raw)) or raw


def _plan(ctx: Context, super_node: SuperNode, profile: Profile, choice: NodeChoice) -> dict[int, str]:
    """Deal the servers; one that is leaving a node is dealt anew only when it has left."""
    existing = ctx.compute_nodes(super_node.metadata.name)
    placed = {server_index(cn): str(node_name(cn)) for cn in existing if node_name(cn) and not is_deleting(cn)}
    if super_node.spec.nodes.placement is Placement.PACKED:
        return plan_packed(profile.servers, placed, choice.usable)
    occupied = {str(node_name(cn)) for cn in existing if node_name(cn) and is_deleting(cn)}
    return plan_dedicated(profile.servers, placed, choice.usable, occupied)


async def _apply_compute_nodes(
    ctx: Context, raw: Object, super_node: SuperNode, profile: Profile, plan: Mapping[int, str]
) -> None:
    existing = {server_index(cn): cn for cn in ctx.compute_nodes(super_node.metadata.name)}
    for server, live in existing.items():
        if is_deleting(live):
            continue
        where = node_name(live)
        if server >= profile.servers or (where is not None and plan.get(server) != where):
            log.info("move server", object=f"ComputeNode/{name(live)}", node=where, to=plan.get(server))
            await ctx.client.delete(COMPUTE_NODE, live)
    for server in range(profile.servers):
        before = existing.get(server)
        if before is not None and (
            is_deleting(before) or (node_name(before) and plan.get(server) != node_name(before))
        ):
            continue
        desired = build_compute_node(raw, super_node, profile, server, plan.get(server))
        if before is None:
            await ctx.client.apply(COMPUTE_NODE, desired)
        elif not subsumes(before, desired):
            metadata = {
                **desired["metadata"],
                "uid": uid(before),
                "resourceVersion": before["metadata"]["resourceVersion"],
            }
            await ctx.client.apply(COMPUTE_NODE, {**desired, "metadata": metadata})
