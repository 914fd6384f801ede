"""Deleting a SuperNode: everything is handed back before the object goes.

1. Its managed Jobs are suspended (the workloads' own reconcile sees that their SuperNode is being deleted).
2. Delete the ComputeNodes: their agents turn devices Unhealthy, drain and release them.
3. Status: who still holds devices (DeletionBlocked).
4. When no ComputeNode is left: wait until no kubelet shows our resources, take the labels off the nodes.
5. Drop our finalizer; the garbage collector takes cabinets with it.
"""

from __future__ import annotations

import structlog

from supernode_api import SuperNode
from supernode_api.names import NODES_FINALIZER
from supernode_dataplane.profile import load_profile, supernode_profile_names
from supernode_operator.domain.nodes import NodeChoice, resources_gone
from supernode_operator.domain.objects import Object, is_deleting, name
from supernode_operator.engine.errors import NotFoundError
from supernode_operator.engine.kinds import COMPUTE_NODE, SUPER_NODE
from supernode_operator.reconcilers.context import Context
from supernode_operator.reconcilers.labels import unlabel_node
from supernode_operator.reconcilers.machine import write_machine_status

__all__ = ["delete_super_node"]

log = structlog.get_logger(__name__)


async def delete_super_node(ctx: Context, raw: Object, super_node: SuperNode | None) -> None:
    """Bring a deletion forward by as much as can be done now."""
    if NODES_FINALIZER not in (raw["metadata"].get("finalizers") or []):
        return
    for compute_node in ctx.compute_nodes(name(raw)):
        if not is_deleting(compute_node):
            try:
                await ctx.client.delete(COMPUTE_NODE, compute_node)
            except NotFoundError:
                ctx.store.remove(COMPUTE_NODE, compute_node)
    waiting = bool(ctx.compute_nodes(name(raw))) or not await _leave_nodes(ctx, raw, super_node)
    if not waiting:
        await _let_go(ctx, raw)
    elif super_node is not None and super_node.spec.profile in supernode_profile_names():
        await write_machine_status(ctx, raw, super_node, load_profile(super_node.spec.profile), NodeChoice(()))


async def _leave_nodes(ctx: Context, raw: Object, super_node: SuperNode | None) -> bool:
    """Take the labels off; False while a kubelet still shows our resources."""
    left = True
    resources = (super_node.spec.resources.npu, super_node.spec.resources.bus_link) if super_node is not None else ()
    for node in ctx.labelled_nodes(name(raw)):
        if resources_gone(node, resources):
            await unlabel_node(ctx, name(raw), node)
        else:
            left = False
    return left


async def _let_go(ctx: Context, raw: Object) -> None:
    metadata = raw["metadata"]
    log.info("deleted", object=f"SuperNode/{name(raw)}")
    rest = [f for f in metadata["finalizers"] if f != NODES_FINALIZER]
    patch = {"metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"], "finalizers": rest}}
    try:
        await ctx.client.merge_patch(SUPER_NODE, name(raw), "", patch)
    except NotFoundError:
        ctx.store.remove(SUPER_NODE, raw)
