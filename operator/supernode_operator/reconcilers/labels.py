"""Our label on Kubernetes nodes: it brings the node agent there, and stays until everything is handed back."""

from __future__ import annotations

import structlog

from supernode_api import SuperNode
from supernode_api.names import NODE_LABEL
from supernode_operator.domain.compute_nodes import node_name
from supernode_operator.domain.nodes import resources_gone
from supernode_operator.domain.objects import Object, labels, name, uid
from supernode_operator.engine.kinds import NODE
from supernode_operator.reconcilers.context import Context

__all__ = ["label_nodes", "leave_nodes", "unlabel_node"]

log = structlog.get_logger(__name__)


async def label_nodes(ctx: Context, super_node: str, chosen: set[str]) -> None:
    """Put our label on the chosen nodes."""
    for node in sorted(chosen):
        live = ctx.store.get(NODE, node)
        if live is None or labels(live).get(NODE_LABEL) == super_node:
            continue
        log.info("label node", object=f"SuperNode/{super_node}", node=node)
        # The uid keeps apply from creating a node that has just gone.
        # Forced only over a label that nobody stands behind.
        metadata = {"name": node, "uid": uid(live), "labels": {NODE_LABEL: super_node}}
        await ctx.client.apply(NODE, {"metadata": metadata}, force=NODE_LABEL in labels(live))


async def leave_nodes(ctx: Context, super_node: SuperNode, chosen: set[str]) -> None:
    """Take our label off nodes that have no server of this SuperNode any more and show no device of it."""
    occupied = {str(node_name(cn)) for cn in ctx.compute_nodes(super_node.metadata.name) if node_name(cn)}
    for node in ctx.labelled_nodes(super_node.metadata.name):
        if name(node) not in chosen | occupied:
            resources = (super_node.spec.resources.npu, super_node.spec.resources.bus_link)
            if resources_gone(node, resources):
                await unlabel_node(ctx, super_node.metadata.name, node)


async def unlabel_node(ctx: Context, super_node: str, node: Object) -> None:
    """Take our label off a node, if it still is the label of this SuperNode."""
    log.info("unlabel node", object=f"SuperNode/{super_node}", node=name(node))
    path = f"/metadata/labels/{NODE_LABEL.replace('/', '~1')}"
    patch = [{"op": "test", "path": path, "value": super_node}, {"op": "remove", "path": path}]
    await ctx.client.json_patch(NODE, name(node), "", patch)
