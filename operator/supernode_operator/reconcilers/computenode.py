"""Letting a ComputeNode go.

1. Not being deleted: nothing to do here (the SuperNode's reconcile builds it).
2. Released by its agent, or its Kubernetes node is gone, or no agent ever had it: drop the hand-over finalizer.
3. Its SuperNode is gone without a trace: delete it.
"""

from __future__ import annotations

import structlog

from supernode_api.names import HANDOVER_FINALIZER
from supernode_operator.domain.compute_nodes import is_released
from supernode_operator.domain.objects import Object, is_deleting, name
from supernode_operator.engine.errors import NotFoundError
from supernode_operator.engine.kinds import COMPUTE_NODE, SUPER_NODE, Key
from supernode_operator.reconcilers.context import Context

__all__ = ["reconcile_compute_node"]

log = structlog.get_logger(__name__)


async def reconcile_compute_node(ctx: Context, key: Key) -> None:
    """Bring one ComputeNode forward on its way out."""
    compute_node = ctx.store.get(COMPUTE_NODE, key.name)
    if compute_node is None:
        return
    if not is_deleting(compute_node):
        if ctx.store.get(SUPER_NODE, str(compute_node["spec"].get("superNode"))) is None:
            log.info("delete", object=str(key), reason="its SuperNode is gone")
            await ctx.client.delete(COMPUTE_NODE, compute_node)
        return
    if HANDOVER_FINALIZER in (compute_node["metadata"].get("finalizers") or []) and is_released(
        compute_node, ctx.nodes()
    ):
        await _drop_finalizer(ctx, compute_node)


async def _drop_finalizer(ctx: Context, compute_node: Object) -> None:
    metadata = compute_node["metadata"]
    log.info("released", object=f"ComputeNode/{name(compute_node)}", node=compute_node["spec"].get("nodeName"))
    rest = [f for f in metadata["finalizers"] if f != HANDOVER_FINALIZER]
    patch = {"metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"], "finalizers": rest}}
    try:
        await ctx.client.merge_patch(COMPUTE_NODE, name(compute_node), "", patch)
    except NotFoundError:
        ctx.store.remove(COMPUTE_NODE, compute_node)
